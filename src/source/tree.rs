//! Ways through figment's values.

use figment::value::{Dict, Value};

/// What a table or a list holds at one key.
pub fn child<'a>(value: &'a Value, part: &str) -> Option<&'a Value> {
    match value {
        Value::Dict(_, dict) => dict.get(part),
        Value::Array(_, array) => array.get(part.parse::<usize>().ok()?),
        _ => None,
    }
}

/// The index that the element at `index` had before others were removed.
pub fn counted(index: usize, removed: &[usize]) -> usize {
    removed.iter().fold(index, |index, gone| index + usize::from(*gone <= index))
}

/// What holds a value.
pub enum Parent<'a> {
    /// A table.
    Dict(&'a mut Dict),
    /// A list.
    Array(&'a mut Vec<Value>),
}

/// The table or list at `path`.
pub fn descend<'a>(dict: &'a mut Dict, path: &[String]) -> Option<Parent<'a>> {
    let Some((first, rest)) = path.split_first() else { return Some(Parent::Dict(dict)) };
    let mut value = dict.get_mut(first)?;
    for part in rest {
        value = match value {
            Value::Dict(_, dict) => dict.get_mut(part)?,
            Value::Array(_, array) => array.get_mut(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    match value {
        Value::Dict(_, dict) => Some(Parent::Dict(dict)),
        Value::Array(_, array) => Some(Parent::Array(array)),
        _ => None,
    }
}
