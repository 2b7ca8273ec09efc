//! Reading of JSON values as types, with errors that name the key.
//!
//! Not `serde_path_to_error`: its wrappers are around each value, and there is code of them for each type of the
//! configuration, some half a megabyte. This one is around maps and lists only; what they hold is read by `serde_json`.

use std::iter::Enumerate;
use std::{fmt, slice};

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, Error, Expected, IntoDeserializer as _, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde_json::{Value, map};

/// A value that is read.
pub(super) struct Keyed<'de>(pub(super) &'de Value);

/// What is wrong, and with which key.
#[derive(Debug)]
pub(super) struct KeyedError(Box<Misread>);

#[derive(Debug)]
struct Misread {
    /// The key's parts, the last one first.
    path: Vec<Part>,
    problem: serde_json::Error,
}

#[derive(Debug)]
enum Part {
    Key(String),
    Index(usize),
}

impl KeyedError {
    /// The dotted key, with indexes of lists in brackets; a dot where it is the whole.
    pub(super) fn key(&self) -> String {
        let mut text = String::new();
        for part in self.0.path.iter().rev() {
            match part {
                Part::Key(key) if text.is_empty() => text.push_str(key),
                Part::Key(key) => text.extend([".", key]),
                Part::Index(index) => text.extend(["[", &index.to_string(), "]"]),
            }
        }
        if text.is_empty() { ".".into() } else { text }
    }

    fn under(mut self, part: Part) -> Self {
        self.0.path.push(part);
        self
    }
}

impl From<serde_json::Error> for KeyedError {
    fn from(problem: serde_json::Error) -> Self {
        let path = Vec::new();
        Self(Box::new(Misread { path, problem }))
    }
}

/// What is wrong, without the key.
impl fmt::Display for KeyedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.problem.fmt(f)
    }
}

impl std::error::Error for KeyedError {}

impl Error for KeyedError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        serde_json::Error::custom(message).into()
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        serde_json::Error::invalid_type(found, expected).into()
    }
}

/// Methods for what has no keys.
macro_rules! of_single_values {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyedError> {
            Ok(self.0.$method(visitor)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Keyed<'de> {
    type Error = KeyedError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyedError> {
        match self.0 {
            Value::Object(_) => self.deserialize_map(visitor),
            Value::Array(_) => self.deserialize_seq(visitor),
            single => Ok(single.deserialize_any(visitor)?),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyedError> {
        match self.0 {
            Value::Object(entries) => visitor.visit_map(Entries {
                rest: entries.iter(),
                current: None,
            }),
            other => Err(mistyped(other, &visitor)),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyedError> {
        match self.0 {
            Value::Array(elements) => visitor.visit_seq(Elements(elements.iter().enumerate())),
            other => Err(mistyped(other, &visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, KeyedError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, KeyedError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, KeyedError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyedError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, KeyedError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, KeyedError> {
        Ok(self.0.deserialize_enum(name, variants, visitor)?)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, KeyedError> {
        Ok(self.0.deserialize_unit_struct(name, visitor)?)
    }

    of_single_values! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64 deserialize_char deserialize_str
        deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_identifier
        deserialize_ignored_any
    }
}

/// A value that is not what the visitor takes.
fn mistyped(value: &Value, expected: &dyn Expected) -> KeyedError {
    let found = match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(flag) => Unexpected::Bool(*flag),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Unexpected::Unsigned(number),
            (_, Some(number)) => Unexpected::Signed(number),
            _ => Unexpected::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    };
    KeyedError::invalid_type(found, expected)
}

/// The entries of a map that are not yet read.
struct Entries<'de> {
    rest: map::Iter<'de>,
    /// The entry whose key was read.
    current: Option<(&'de str, &'de Value)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = KeyedError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, KeyedError> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        self.current = Some((key, value));
        let of_key: StrDeserializer<'_, KeyedError> = key.as_str().into_deserializer();
        seed.deserialize(of_key)
            .map(Some)
            .map_err(|error| error.under(Part::Key(key.clone())))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, KeyedError> {
        let Some((key, value)) = self.current.take() else {
            return Err(KeyedError::custom("a value without a key"));
        };
        seed.deserialize(Keyed(value))
            .map_err(|error| error.under(Part::Key(key.to_owned())))
    }
}

/// The elements of a list that are not yet read.
struct Elements<'de>(Enumerate<slice::Iter<'de, Value>>);

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = KeyedError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, KeyedError> {
        let Some((index, value)) = self.0.next() else {
            return Ok(None);
        };
        seed.deserialize(Keyed(value))
            .map(Some)
            .map_err(|error| error.under(Part::Index(index)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Whole {
        #[expect(dead_code, reason = "only read")]
        list: Vec<BTreeMap<String, Option<u16>>>,
    }

    #[test]
    fn an_error_names_the_key_and_says_what_serde_json_says() {
        for (value, key) in [
            (json!({}), "."),
            (json!({ "list": [], "more": 1 }), "more"),
            (json!({ "list": 1 }), "list"),
            (json!({ "list": [{}, 2.5] }), "list[1]"),
            (json!({ "list": [[], {}] }), "list[0]"),
            (json!({ "list": [{ "a": 1 }, { "a": 2, "b": -3 }] }), "list[1].b"),
            (json!({ "list": [{ "a": "b" }] }), "list[0].a"),
            (json!({ "list": [{ "a": { "b": 1 } }] }), "list[0].a"),
        ] {
            let error = Whole::deserialize(Keyed(&value)).expect_err(key);
            assert_eq!(error.key(), key);
            let plain = Whole::deserialize(&value).expect_err(key);
            assert_eq!(error.to_string(), plain.to_string());
        }
        Whole::deserialize(Keyed(&json!({ "list": [{ "a": 1, "b": null }] }))).unwrap();
    }
}
