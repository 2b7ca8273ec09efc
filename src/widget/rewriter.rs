//! Puts the script tag into a page as it streams through; every other byte passes unchanged.
//!
//! The place is the end of `<head>`, or, if that is omitted, before the first element of the body: no earlier, as
//! a `<meta>` of the head may carry a policy that forbids the script. Nothing after the place is examined. Only an
//! incomplete tag is held back, up to [`MEMORY`]; after any failure the bytes held back are sent, and then the
//! rest of the page.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lol_html::html_content::ContentType;
use lol_html::send::{Element, ElementContentHandlers, HtmlRewriter, Settings};
use lol_html::{AsciiCompatibleEncoding, MemorySettings, OutputSink, Selector};

use super::charset;
use super::csp::Policies;
use super::outcome::Outcome;
use super::page::Page;
use super::tag::{Tag, TagCommunity};

/// Largest incomplete tag. A longer one, such as a picture in an attribute, ends the search for the place.
const MEMORY: usize = 128 * 1024;

/// What is put into a page, and the policies that must allow it.
#[derive(Debug, Clone)]
pub(crate) struct Insertion {
    pub(crate) tag: Arc<Tag>,
    pub(crate) community: TagCommunity,
    pub(crate) page: Page,
    /// The policies of the response's headers.
    pub(crate) policies: Policies,
    /// Paths of script and live connection.
    pub(crate) paths: Arc<ResourcePaths>,
}

/// Paths of the widget's resources.
#[derive(Debug)]
pub(crate) struct ResourcePaths {
    pub(crate) script: String,
    pub(crate) live: String,
}

/// One page in transit.
pub(crate) struct Rewriter {
    /// `None` when nothing is left to do.
    html: Option<HtmlRewriter<'static, Sink>>,
    search: Arc<Mutex<Search>>,
    sink: Sink,
    /// Bytes received and not yet sent.
    kept: Vec<u8>,
}

impl Rewriter {
    /// A rewriter for a page that has not begun.
    pub(crate) fn new(wanted: Insertion) -> Self {
        let search = Arc::new(Mutex::new(Search {
            wanted,
            in_head: false,
            in_inert: false,
            outcome: None,
            inserted: 0,
        }));
        let sink = Sink::default();
        Self {
            html: html_rewriter(&search, sink.clone()),
            search,
            sink,
            kept: Vec::new(),
        }
    }

    /// Appends to `out` what can be sent after `bytes` were received.
    pub(crate) fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(html) = &mut self.html else {
            out.extend_from_slice(bytes);
            return;
        };
        if bytes.is_empty() {
            return;
        }
        // Byte order marks of UTF-16; no page in another encoding begins with these bytes.
        let is_wide = self.kept.is_empty() && !self.sink.has_begun() && matches!(bytes[0], 0xfe | 0xff);
        let failed = !is_wide && html.write(bytes).is_err();
        let mut search = lock(&self.search);
        if is_wide || failed {
            let outcome = if is_wide {
                Outcome::Charset
            } else {
                Outcome::Failed
            };
            search.outcome.get_or_insert(outcome);
        }
        let sent = out.len();
        self.sink.take(out);
        let inserted = std::mem::take(&mut search.inserted);
        let passed = (out.len() - sent).saturating_sub(inserted);
        self.kept.extend_from_slice(bytes);
        self.kept.drain(..passed.min(self.kept.len()));
        if search.outcome.is_some() {
            out.append(&mut self.kept);
            self.html = None;
        }
    }

    /// Appends to `out` what is left at the end of the page.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.kept);
        self.html = None;
    }

    /// Whether the rest passes unchanged.
    pub(crate) fn is_done(&self) -> bool {
        self.html.is_none()
    }

    /// The outcome; may be unknown before the end of the page.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        lock(&self.search).outcome
    }
}

/// The search for the place.
struct Search {
    wanted: Insertion,
    /// Between `<head>` and `</head>`.
    in_head: bool,
    /// Within an element of the head whose content is not parsed as part of the page.
    in_inert: bool,
    outcome: Option<Outcome>,
    /// Length of the inserted tag, until it is accounted for.
    inserted: usize,
}

impl Search {
    /// The tag, when its place is reached; `None` if that was passed already, or the page must not have the tag.
    fn place(&mut self) -> Option<String> {
        if self.outcome.is_some() {
            return None;
        }
        let Insertion {
            tag,
            community,
            page,
            policies,
            paths,
        } = &self.wanted;
        match policies.verdict(page, &paths.script, &paths.live) {
            Ok(nonce) => {
                let tag = tag.of(page, community, nonce.as_deref());
                self.inserted = tag.len();
                self.outcome = Some(Outcome::Injected);
                Some(tag)
            }
            Err(blocked) => {
                self.outcome = Some(blocked.into());
                None
            }
        }
    }

    fn meta(&mut self, meta: &Element<'_, '_>) {
        let equiv = meta
            .get_attribute("http-equiv")
            .map(|name| name.to_ascii_lowercase());
        let content = || meta.get_attribute("content").unwrap_or_default();
        let declared = match equiv.as_deref().map(str::trim) {
            Some("content-security-policy") => {
                if self.wanted.policies.add_from_meta(&content()).is_err() {
                    // A policy that is not kept may forbid it.
                    self.outcome = Some(Outcome::ScriptBlocked);
                }
                None
            }
            Some("content-type") => charset::of_content_type(&content()).map(str::to_owned),
            _ => meta.get_attribute("charset"),
        };
        if declared.is_some_and(|label| !charset::is_like_ascii(&label)) {
            self.outcome = Some(Outcome::Charset);
        }
    }

    /// The script's path would be resolved against it.
    fn base(&mut self, base: &Element<'_, '_>) {
        let href = base.get_attribute("href");
        if href.is_some_and(|href| !self.wanted.page.is_base_of_its_own(&href)) {
            self.outcome = Some(Outcome::ForeignBase);
        }
    }
}

fn html_rewriter(search: &Arc<Mutex<Search>>, sink: Sink) -> Option<HtmlRewriter<'static, Sink>> {
    let searching = Arc::clone(search);
    let any: Selector = "*".parse().ok()?;
    let handler = ElementContentHandlers::default()
        .element(move |element: &mut Element<'_, '_>| visit(&searching, element));
    let settings = Settings::new_send()
        // Names and values that matter are ASCII, and so is the tag: any encoding that keeps ASCII works.
        .with_encoding(AsciiCompatibleEncoding::utf_8())
        .with_strict(false)
        .with_memory_settings(MemorySettings::new().with_max_allowed_memory_usage(MEMORY))
        .append_element_content_handler((Cow::Owned(any), handler));
    Some(HtmlRewriter::new(settings, sink))
}

fn visit(searching: &Arc<Mutex<Search>>, element: &mut Element<'_, '_>) -> lol_html::HandlerResult {
    let mut search = lock(searching);
    // The rest of the piece that contained the place is still parsed.
    if search.outcome.is_some() || search.in_inert {
        return Ok(());
    }
    match &*element.tag_name() {
        "html" | "title" | "link" | "style" | "script" => {}
        "meta" => search.meta(element),
        "base" => search.base(element),
        "frameset" => search.outcome = Some(Outcome::NoPlace),
        "head" => {
            search.in_head = true;
            let searching = Arc::clone(searching);
            element.on_end_tag(Box::new(move |end| {
                if let Some(tag) = lock(&searching).place() {
                    end.before(&tag, ContentType::Html);
                }
                Ok(())
            }))?;
        }
        "noscript" | "template" if search.in_head => {
            search.in_inert = true;
            let searching = Arc::clone(searching);
            element.on_end_tag(Box::new(move |_| {
                lock(&searching).in_inert = false;
                Ok(())
            }))?;
        }
        _ => {
            if let Some(tag) = search.place() {
                element.before(&tag, ContentType::Html);
            }
        }
    }
    Ok(())
}

/// The rewriter's output.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    has_begun: bool,
}

impl Sink {
    fn take(&self, out: &mut Vec<u8>) {
        out.append(&mut lock(&self.0).bytes);
    }

    fn has_begun(&self) -> bool {
        lock(&self.0).has_begun
    }
}

impl OutputSink for Sink {
    fn handle_chunk(&mut self, chunk: &[u8]) {
        let mut written = lock(&self.0);
        written.bytes.extend_from_slice(chunk);
        written.has_begun |= !chunk.is_empty();
    }
}

/// These locks are never contended; they exist because Pingora shares contexts between threads.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
