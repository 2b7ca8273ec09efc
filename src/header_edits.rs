//! Header edits: changes to the headers of a message, made at once or kept as data.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Headers that can be changed.
pub trait EditHeaders {
    /// Removes all headers of a name.
    fn remove(&mut self, name: &HeaderName);

    /// Sets a header, in place of all of its name.
    fn set(&mut self, name: &'static HeaderName, value: HeaderValue);

    /// Sets a header to a text. One that no header can hold removes the header instead.
    fn set_text(&mut self, name: &'static HeaderName, value: &str) {
        // Every value is made of addresses, checked tokens or another header's text; none is refused.
        match HeaderValue::from_str(value) {
            Ok(value) => self.set(name, value),
            Err(_) => self.remove(name),
        }
    }
}

impl EditHeaders for HeaderMap {
    fn remove(&mut self, name: &HeaderName) {
        self.remove(name);
    }

    fn set(&mut self, name: &'static HeaderName, value: HeaderValue) {
        self.insert(name, value);
    }
}

/// Changes to headers, for later: first the removals, then the settings, each replacing all of that name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct HeaderEdits {
    /// Names to remove.
    pub remove: Vec<HeaderName>,
    /// Names to set, each once.
    pub set: Vec<(HeaderName, HeaderValue)>,
}

#[cfg(test)]
impl HeaderEdits {
    /// Applies the edits to a plain header map.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
    }
}
