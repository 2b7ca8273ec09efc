//! Widget injection on Pingora's side: passes heads and bodies of candidate pages through [`crate::widget`].

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::ctx::Injection;
use super::forwarding;
use super::headers::{X_FORWARDED_HOST, X_FORWARDED_PROTO};
use super::messages::edit;
use super::{Ctx, Sidecar};
use crate::ids::CommunityId;
use crate::widget::{Decision, Outcome, Page, TagCommunity};

impl Sidecar {
    /// Changes the request to the app, whose headers are already edited, if its answer may get the widget.
    pub(super) fn prepare_page(
        &self,
        session: &Session,
        upstream: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        ctx.injection = Injection::None;
        let Some(injector) = &self.injector else {
            return Ok(());
        };
        let request = session.req_header();
        let has_token = ctx.facts.token.is_some();
        let is_candidate = injector.is_candidate(
            &request.method,
            &request.headers,
            ctx.facts.route.as_ref(),
            has_token,
        );
        if !is_candidate {
            return Ok(());
        }
        ctx.injection = Injection::Candidate(page(&upstream.headers));
        edit(upstream, injector.request(&request.headers))
    }

    /// Changes the head of a candidate's response; its body then goes through [`Sidecar::rewrite`].
    pub(super) fn begin_page(
        &self,
        session: &Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let Some(injector) = &self.injector else {
            return Ok(());
        };
        let Injection::Candidate(page) = std::mem::replace(&mut ctx.injection, Injection::None) else {
            return Ok(());
        };
        let named = ctx
            .facts
            .route
            .as_ref()
            .and_then(|found| found.community.as_ref());
        let community = match named {
            // A stale id will do: the page's script finds the community again.
            Some(named) => self.communities.last_known_key(named, self.community_key),
            None => None,
        };
        let community = match (named, community) {
            (Some(named), Some(key)) => Some(TagCommunity {
                key: CommunityId::new(key),
                slug: self.communities.last_known_slug(named, self.community_key),
            }),
            _ => None,
        };
        let request = &session.req_header().headers;
        let decision = injector.decide(request, response.status, &response.headers, community, page);
        // An unknown slug is looked up for the next page: this one must not wait.
        if let Some(named) = named
            && !matches!(decision, Decision::Leave(None))
        {
            self.communities
                .refresh(named, self.community_key, &self.background);
        }
        let edits = match decision {
            Decision::Leave(outcome) => {
                self.count_page(outcome);
                return Ok(());
            }
            Decision::Revalidated(edits) => edits,
            Decision::Rewrite(edits, body) => {
                ctx.injection = Injection::Body(Mutex::new(body));
                edits
            }
        };
        for name in edits.remove {
            response.remove_header(&name);
        }
        for (name, value) in edits.set {
            response.insert_header(name, value)?;
        }
        Ok(())
    }

    /// Passes a piece of a response's body through the widget.
    pub(super) fn rewrite(&self, piece: &mut Option<Bytes>, end: bool, ctx: &mut Ctx) -> Result<()> {
        let Injection::Body(body) = &mut ctx.injection else {
            return Ok(());
        };
        let body = body.get_mut().unwrap_or_else(PoisonError::into_inner);
        let passed = body.pass(piece.as_deref().unwrap_or_default(), end);
        let is_done = body.is_done();
        self.count_page(body.outcome(end));
        if is_done {
            ctx.injection = Injection::None;
        }
        let passed = passed
            .map_err(|error| Error::because(ErrorType::ReadError, "unpacking a page", error).into_up())?;
        *piece = Some(passed).filter(|passed| !passed.is_empty());
        Ok(())
    }

    fn count_page(&self, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome {
            self.metrics.widget_pages[outcome].inc();
        }
    }
}

/// The page's URL as its browser knows it, from the headers for the app.
fn page(upstream: &HeaderMap) -> Page {
    let text = |name: &HeaderName| upstream.get(name)?.to_str().ok();
    Page {
        tls: text(&X_FORWARDED_PROTO) == Some("https"),
        authority: text(&X_FORWARDED_HOST).map(str::to_owned),
        prefix: forwarding::prefix(upstream),
    }
}
