//! The demo's upstream app: an ordinary community site with sign-in, pages and a database of its own.
//!
//! It stands for the app behind the sidecar, so it knows nothing of the sidecar: no recording, no visitors API.
//! Only its pages' script uses the visitors API, by its path on the same origin.

pub(crate) mod content;
mod pages;
mod tables;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path as FilePath;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use cookie::Cookie;
use serde_json::json;
use tokio::net::TcpListener;

use content::Member;
use tables::Tables;

/// Name of the cookie that carries the session token.
pub(crate) const COOKIE: &str = "session_id";

/// The sidecar's window, as the site's pages mention it.
pub(crate) const WINDOW_SECONDS: u64 = 20;

/// Creates the site's database and serves the site on a free loopback port, in a task of the current
/// runtime.
pub(crate) async fn start(database: &FilePath) -> anyhow::Result<SocketAddr> {
    let tables = Tables::create(database).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router(tables)).await {
            tracing::error!(%error, "the sample site stopped");
        }
    });
    Ok(address)
}

fn router(tables: Tables) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/sign-in", get(sign_in_page))
        .route("/sign-in/{username}", post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/communities/{id}/", get(community))
        .route("/communities/{id}/posts/{number}/", get(community_post))
        .route("/c/{slug}/", get(community_by_slug))
        .route("/api/communities/{id}/", get(community_data))
        .route("/media/avatars/{file}", get(avatar))
        .route("/static/site.css", get(stylesheet))
        .route("/healthz", get(async || "ok\n"))
        .fallback(not_found)
        .with_state(tables)
}

/// An error of the site's database.
struct SampleSiteError(sqlx::Error);

impl From<sqlx::Error> for SampleSiteError {
    fn from(error: sqlx::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for SampleSiteError {
    fn into_response(self) -> Response {
        tracing::error!(error = %self.0, "the sample site's database failed");
        (StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong.\n").into_response()
    }
}

type PageResult = Result<Response, SampleSiteError>;

async fn front(State(tables): State<Tables>, headers: HeaderMap) -> PageResult {
    Ok(html(
        StatusCode::OK,
        pages::front(reader(&tables, &headers).await?),
    ))
}

async fn sign_in_page(State(tables): State<Tables>, headers: HeaderMap) -> PageResult {
    Ok(html(
        StatusCode::OK,
        pages::sign_in(reader(&tables, &headers).await?),
    ))
}

async fn sign_in(
    State(tables): State<Tables>,
    Path(username): Path<String>,
    headers: HeaderMap,
) -> PageResult {
    let Some(member) = content::member_by_name(&username) else {
        return not_found(State(tables), headers).await;
    };
    if let Some(token) = token(&headers) {
        tables.sign_out(token).await?;
    }
    let user_agent = headers
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok());
    let token = tables.sign_in(member, user_agent.unwrap_or_default()).await?;
    let cookie = format!(
        "{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={}",
        tables::SESSION_LIFETIME.as_secs()
    );
    Ok((AppendHeaders([(header::SET_COOKIE, cookie)]), Redirect::to("/")).into_response())
}

async fn sign_out(State(tables): State<Tables>, headers: HeaderMap) -> PageResult {
    if let Some(token) = token(&headers) {
        tables.sign_out(token).await?;
    }
    let cookie = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    Ok((AppendHeaders([(header::SET_COOKIE, cookie)]), Redirect::to("/")).into_response())
}

async fn community(state: State<Tables>, Path(id): Path<String>, headers: HeaderMap) -> PageResult {
    match id.parse().ok().and_then(content::community_by_id) {
        Some(community) => community_page(state, community, headers).await,
        None => not_found(state, headers).await,
    }
}

async fn community_by_slug(state: State<Tables>, Path(slug): Path<String>, headers: HeaderMap) -> PageResult {
    match content::community_by_slug(&slug) {
        Some(community) => community_page(state, community, headers).await,
        None => not_found(state, headers).await,
    }
}

async fn community_page(
    State(tables): State<Tables>,
    community: &content::Community,
    headers: HeaderMap,
) -> PageResult {
    let reader = reader(&tables, &headers).await?;
    Ok(html(StatusCode::OK, pages::community(community, reader)))
}

async fn community_post(
    State(tables): State<Tables>,
    Path((id, number)): Path<(String, String)>,
    headers: HeaderMap,
) -> PageResult {
    let community = id.parse().ok().and_then(content::community_by_id);
    let index = number
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_sub(1));
    let found = community
        .zip(index)
        .and_then(|(community, index)| Some((community, community.posts.get(index)?)));
    match found {
        Some((community, post)) => {
            let reader = reader(&tables, &headers).await?;
            Ok(html(StatusCode::OK, pages::post(community, post, reader)))
        }
        None => not_found(State(tables), headers).await,
    }
}

async fn community_data(Path(id): Path<String>) -> Response {
    match id.parse().ok().and_then(content::community_by_id) {
        Some(community) => Json(json!({
            "id": community.id,
            "slug": community.slug,
            "name": community.name,
            "about": community.about,
            "posts": community.posts.len(),
        }))
        .into_response(),
        None => (StatusCode::NOT_FOUND, Json(json!({"detail": "Not found."}))).into_response(),
    }
}

async fn avatar(Path(file): Path<String>) -> Response {
    match file.strip_suffix(".svg").and_then(content::member_by_name) {
        Some(member) => (
            [
                (header::CONTENT_TYPE, "image/svg+xml"),
                (header::CACHE_CONTROL, "max-age=3600"),
            ],
            pages::avatar(member),
        )
            .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn stylesheet() -> impl IntoResponse {
    (
        [
            (header::CONTENT_TYPE, "text/css; charset=utf-8"),
            (header::CACHE_CONTROL, "max-age=60"),
        ],
        include_str!("site/site.css"),
    )
}

async fn not_found(State(tables): State<Tables>, headers: HeaderMap) -> PageResult {
    let reader = reader(&tables, &headers).await?;
    Ok(html(StatusCode::NOT_FOUND, pages::not_found(reader)))
}

fn html(status: StatusCode, text: String) -> Response {
    (status, [(header::CACHE_CONTROL, "private, no-cache")], Html(text)).into_response()
}

/// The signed-in member of a request.
async fn reader(tables: &Tables, headers: &HeaderMap) -> Result<Option<&'static Member>, sqlx::Error> {
    let Some(token) = token(headers) else {
        return Ok(None);
    };
    let id = tables.member_of(token).await?;
    Ok(id.and_then(|id| content::MEMBERS.iter().find(|member| member.id == id)))
}

/// The session token that came with the request.
fn token(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(Cookie::split_parse)
        .flatten()
        .find(|cookie| cookie.name() == COOKIE)
        .and_then(|cookie| cookie.value_raw())
}
