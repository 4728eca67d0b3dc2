//! The name that was probably meant.

use crate::spec::Name;

/// The name nearest to `asked`, if one is near enough: a third of its letters may differ, one may always.
pub fn nearest<'a>(asked: &Name, names: impl IntoIterator<Item = &'a Name>) -> Option<Name> {
    let limit = (asked.as_str().len() / 3).max(1);
    names
        .into_iter()
        .map(|name| (distance(asked.as_str(), name.as_str()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name.clone())
}

/// Letters to insert, delete, change or swap with their neighbour (optimal string alignment). Names are ASCII.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let (mut before, mut last) = (vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<_>>());
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found() {
        let names: Vec<Name> = ["web", "database", "cache"].map(|n| n.parse().unwrap()).into();
        let nearest = |asked: &str| nearest(&asked.parse().unwrap(), &names).map(String::from);
        assert_eq!(nearest("wbe").as_deref(), Some("web"));
        assert_eq!(nearest("databas").as_deref(), Some("database"));
        assert_eq!(nearest("dtabasse").as_deref(), Some("database"));
        assert_eq!(nearest("nothing"), None);
        assert_eq!(distance("", "abc"), 3);
    }
}
