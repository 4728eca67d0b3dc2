//! From the parser's values, which have places, to figment's, which have none.

use std::ops::Range;

use figment::value::{Dict, Tag, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    diagnostic::{Diagnostic, MOST},
    document::{Document, KeyPath, Part, Place},
};

impl Document {
    /// Converts a table, noting places.
    pub fn table(&mut self, table: &DeTable<'_>, path: &KeyPath, found: &mut Vec<Diagnostic>) -> Dict {
        let mut dict = Dict::new();
        for (key, value) in table {
            let path = [&path[..], &[key.get_ref().to_string()]].concat();
            if let Some(value) = self.value(value, &key.span(), &path, found) {
                dict.insert(key.get_ref().to_string(), value);
            }
        }
        dict
    }

    /// Converts a value, noting its place; what no key can mean is told and left out.
    fn value(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        key: &Range<usize>,
        path: &KeyPath,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Value> {
        let radix = value.get_ref().as_integer().map_or(0, toml::de::DeInteger::radix);
        let span = if value.get_ref().is_table() { key.clone() } else { value.span() };
        self.places.insert(path.clone(), Place { key: key.clone(), value: span, radix });
        let converted = match value.get_ref() {
            DeValue::String(text) => Value::from(&**text),
            DeValue::Boolean(truth) => Value::from(*truth),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::from(number),
                Err(_) => return self.refuse(path, "this number does not fit in 64 bits", None, found),
            },
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) => Value::from(number),
                Err(_) => return self.refuse(path, "this number cannot be read", None, found),
            },
            DeValue::Datetime(date) => {
                let help = format!("write \"{date}\" if a text is meant");
                return self.refuse(path, "no key takes a date", Some(help), found);
            }
            DeValue::Array(array) => Value::Array(Tag::Default, self.array(array, path, found)),
            DeValue::Table(table) => Value::Dict(Tag::Default, self.table(table, path, found)),
        };
        Some(converted)
    }

    /// Converts a list, noting places. The place of an element's key is the element.
    fn array(&mut self, array: &toml::de::DeArray<'_>, path: &KeyPath, found: &mut Vec<Diagnostic>) -> Vec<Value> {
        let mut values = Vec::new();
        for (index, element) in array.iter().enumerate() {
            let below = [&path[..], &[index.to_string()]].concat();
            match self.value(element, &element.span(), &below, found) {
                Some(value) => values.push(value),
                None => self.removed.entry(path.clone()).or_default().push(index),
            }
        }
        values
    }

    /// Tells that the value at `path` cannot be.
    fn refuse(
        &mut self,
        path: &KeyPath,
        message: &str,
        help: Option<String>,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Value> {
        if found.len() < MOST {
            found.push(self.error(path, Part::Value, message).with_help(help));
            self.failed.push(path.clone());
        }
        None
    }
}
