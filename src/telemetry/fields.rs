//! Fields of a line of text: the message, the others as `name=value`, and last the errors as they are, without quotes and escapes:
//! what its end says to run can be pasted.

use std::error::Error;
use std::fmt::{self, Debug};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::{RecordFields, VisitOutput as _};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};

use crate::printable::is_unprintable;

/// The fields that stand last: texts of errors.
const ERRORS: [&str; 2] = ["cause", "error"];

/// Formats fields so.
pub(super) struct ErrorLast;

impl<'w> FormatFields<'w> for ErrorLast {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = LineFields {
            others: DefaultVisitor::new(writer.by_ref(), true),
            is_empty: true,
            errors: Vec::new(),
        };
        fields.record(&mut line);
        let (mut is_empty, errors) = (line.is_empty, line.errors);
        line.others.finish()?;
        for (name, text) in errors {
            if !is_empty {
                writer.write_char(' ')?;
            }
            is_empty = false;
            write!(writer, "{name}=")?;
            // A line stays one, and gives no orders to a terminal.
            for c in text.chars() {
                if is_unprintable(c) {
                    write!(writer, "{}", c.escape_default())?;
                } else {
                    writer.write_char(c)?;
                }
            }
        }
        Ok(())
    }
}

struct LineFields<'w> {
    others: DefaultVisitor<'w>,
    is_empty: bool,
    /// Each with its name.
    errors: Vec<(&'static str, String)>,
}

impl LineFields<'_> {
    /// Keeps the text of an error for the end; whether the field is that of one.
    fn keeps(&mut self, field: &Field, text: impl FnOnce() -> String) -> bool {
        let is_error = ERRORS.contains(&field.name());
        if is_error {
            self.errors.push((field.name(), text()));
        } else {
            self.is_empty = false;
        }
        is_error
    }
}

impl Visit for LineFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if !self.keeps(field, || value.to_owned()) {
            self.others.record_str(field, value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        if !self.keeps(field, || super::chain(value)) {
            self.others.record_error(field, value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if !self.keeps(field, || format!("{value:?}")) {
            self.others.record_debug(field, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn d26_a_statement_at_the_end_of_an_error_can_be_pasted_from_the_log() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .fmt_fields(ErrorLast)
            .with_writer(lines.clone())
            .finish();
        let remedy = r#"GRANT SELECT ("id") ON TABLE "public"."t" TO "a ""role""";"#;
        tracing::subscriber::with_default(subscriber, || {
            let error = format!("denied: {remedy}");
            tracing::warn!(error, views = 3, name = "a \"name\"", "not written");
            tracing::warn!(error = "two\nlines\u{1b}[2J", "hostile");
            tracing::warn!(error = %io::Error::other("alone"));
            tracing::info!(views = 3, "no error");
            tracing::info!(error = "one", views = 3, cause = "\"two\"", "both");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let of = |line: usize| text.lines().nth(line).unwrap().split_once(": ").unwrap().1;
        assert_eq!(
            of(0),
            format!("not written views=3 name=\"a \\\"name\\\"\" error=denied: {remedy}")
        );
        assert_eq!(of(1), r"hostile error=two\nlines\u{1b}[2J");
        assert_eq!(of(2), "error=alone");
        assert_eq!(of(3), "no error views=3");
        assert_eq!(of(4), "both views=3 error=one cause=\"two\"");
        assert_eq!(text.lines().count(), 5);
    }
}
