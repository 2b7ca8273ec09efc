//! Header edits: changes to headers as data, which pure code returns and a phase of the proxy applies.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Changes to headers: first the removals, then the settings, each replacing all of that name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderEdits {
    /// Names to remove.
    pub remove: Vec<HeaderName>,
    /// Names to set, each once.
    pub set: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderEdits {
    /// Applies the edits to a plain header map. (Pingora's request header keeps a second map of spellings:
    /// there, use its own `remove_header` and `insert_header`.)
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
    }

    /// Adds a setting to a constant.
    pub(crate) fn set_static(&mut self, name: HeaderName, value: &'static str) {
        self.set.push((name, HeaderValue::from_static(value)));
    }

    /// Adds a setting. A value that no header can hold removes the header instead.
    pub(crate) fn set(&mut self, name: HeaderName, value: &str) {
        // Every value is made of addresses, checked tokens or another header's text; none is refused.
        match HeaderValue::from_str(value) {
            Ok(value) => self.set.push((name, value)),
            Err(_) => self.remove.push(name),
        }
    }
}
