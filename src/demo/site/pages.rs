//! The sample site's pages as HTML. Pure: content in, text out.
//!
//! Nothing here comes from a client, so nothing is escaped; the sidecar's own element shows who is here.

use std::fmt::Write as _;

use super::content::{COMMUNITIES, Community, MEMBERS, Member, Post};

/// The list of communities, each with its moving count.
pub(crate) fn front(reader: Option<&Member>) -> String {
    let mut cards = String::new();
    for Community { id, name, about, .. } in COMMUNITIES {
        let _ = write!(
            cards,
            r#"<li class="card"><h2><a href="/communities/{id}/">{name}</a></h2>
<p>{about}</p>{here}</li>"#,
            here = count(*id, "", reader)
        );
    }
    let body = format!(
        r#"<h1>Come in, somebody is home.</h1>
<p class="lead">Three small communities, each with its regulars. The numbers are people reading right now: they
come and go by themselves, and so can you.</p>
<ul class="grid">{cards}</ul>"#
    );
    layout("Lantern", reader, &body)
}

/// One community with its posts and who is here.
pub(crate) fn community(community: &Community, reader: Option<&Member>) -> String {
    let Community {
        id,
        name,
        about,
        posts,
        ..
    } = community;
    let mut items = String::new();
    for (number, Post { title, author, .. }) in (1..).zip(*posts) {
        let _ = write!(
            items,
            r#"<li><a href="/communities/{id}/posts/{number}/">{title}</a><p class="by">by {author}</p></li>"#
        );
    }
    let body = format!(
        r#"<div class="split"><main><h1>{name}</h1><p class="lead">{about}</p><ul class="posts">{items}</ul></main>
{here}</div>"#,
        here = here_now(&count(*id, r#" here avatars="20""#, reader))
    );
    layout(name, reader, &body)
}

/// One post.
pub(crate) fn post(community: &Community, number: usize, post: &Post, reader: Option<&Member>) -> String {
    let Post { title, author, body } = post;
    // Whoever is here is in the community, too.
    let readers = format!(
        r#" post="{number}" here avatars="20" label-one="{{count}} reading this post" label-other="{{count}} reading this post""#
    );
    let counts = count(community.id, &readers, reader) + &count(community.id, "", reader);
    let body = format!(
        r#"<div class="split"><main><p><a href="/communities/{id}/">{name}</a></p><h1>{title}</h1>
<p class="by">by {author}</p><p class="body">{body}</p></main>
{here}</div>"#,
        id = community.id,
        name = community.name,
        here = here_now(&counts)
    );
    layout(title, reader, &body)
}

/// The sign-in page: one button per member; those for the user of the demo come first.
pub(crate) fn sign_in(reader: Option<&Member>) -> String {
    let mut cards = String::new();
    for Member {
        username,
        about,
        guest,
        ..
    } in MEMBERS
    {
        let note = if *guest { "" } else { " <em>simulated</em>" };
        let _ = write!(
            cards,
            r#"<li class="card"><form method="post" action="/sign-in/{username}"><button>
<img src="/media/avatars/{username}.svg" width="44" height="44" alt=""><span><strong>{username}</strong>{note}
<small>{about}</small></span></button></form></li>"#
        );
    }
    let body = format!(
        r#"<h1>Who are you today?</h1><p class="lead">No password: this is a demo.</p><ul class="grid">{cards}</ul>"#
    );
    layout("Sign in", reader, &body)
}

/// The page for unknown paths.
pub(crate) fn not_found(reader: Option<&Member>) -> String {
    layout(
        "Not found",
        reader,
        r#"<h1>Nobody is here.</h1><p class="lead">There is no such page. <a href="/">Back to the front page</a>.</p>"#,
    )
}

/// A member's picture: an initial on a colour.
pub(crate) fn avatar(member: &Member) -> String {
    let initial = member.username.chars().next().unwrap_or('?').to_ascii_uppercase();
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><rect width="64" height="64" fill="hsl({hue},45%,45%)"/><text x="32" y="33" fill="#fff" font-family="system-ui,sans-serif" font-size="30" font-weight="600" text-anchor="middle" dominant-baseline="central">{initial}</text></svg>"##,
        // The golden angle makes neighbouring colours differ.
        hue = member.id * 137 % 360
    )
}

/// The elements that show who is here, on a page of the community.
fn here_now(counts: &str) -> String {
    format!(
        r#"<aside class="card here">{counts}<p class="note">Whoever has a page open here, or opened one within the last
{window} seconds.</p></aside>"#,
        window = super::WINDOW_SECONDS
    )
}

/// The element that shows the count, for signed-in members only.
fn count(community: i64, attributes: &str, reader: Option<&Member>) -> String {
    let text = match reader {
        Some(_) => format!(r#"<live-visitors community="{community}"{attributes}></live-visitors>"#),
        None => "Sign in to see who is here".into(),
    };
    format!(r#"<div class="count">{text}</div>"#)
}

fn layout(title: &str, reader: Option<&Member>, body: &str) -> String {
    let who = match reader {
        Some(Member { username, .. }) => format!(
            r#"<form class="who" method="post" action="/sign-out"><img src="/media/avatars/{username}.svg"
width="32" height="32" alt=""><span>{username}</span><button>Sign out</button></form>"#
        ),
        None => r#"<a href="/sign-in">Sign in</a>"#.to_owned(),
    };
    format!(
        r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><link rel="stylesheet" href="/static/site.css">
<script async src="/api/visitors/widget.js"></script></head>
<body><header class="top"><a class="brand" href="/">Lantern</a>{who}</header>
{body}</body></html>
"#
    )
}
