//! Tests of past visitors: their fields, pages and refusals.

use chrono::{DateTime, SubsecRound as _, TimeDelta};
use http::StatusCode;
use serde_json::{Value, json};

use super::fakes::Mood;
use super::support::{Site, anonymous, now, send};
use crate::api::cursor::past::{Belonging, PastCursor};
use crate::config::Pages;
use crate::routes::{RouteFile, RouteTable};
use crate::store::{PastPlace, PastSort, PastVisitor};

const HISTORY: &str = "/api/communities/42/visitors/history";

fn visitor(user: &str, minutes: i64) -> PastVisitor {
    PastVisitor {
        user_id: user.into(),
        page_views: 3,
        visit_count: 2,
        first_visit: now() - TimeDelta::hours(5),
        last_visit: now() - TimeDelta::minutes(minutes),
        pages: vec![("/a".into(), 2), ("/b".into(), 1)],
    }
}

fn site(shown: &[&str], all: &[&str]) -> Site {
    let site = Site::with(|settings| settings.pages = Pages::All);
    let visitors = all.iter().zip(1..).map(|(user, minutes)| visitor(user, minutes));
    *site.store.past.lock().unwrap() = visitors.collect();
    for user in shown {
        site.store.profile(user);
    }
    site
}

#[tokio::test]
async fn s35_the_answers_have_exactly_the_documented_fields() {
    let site = site(&["7"], &["7"]);
    let one = json!({
        "user_id": 7,
        "username": "user-7",
        "avatar": null,
        "visit_count": 2,
        "page_views": 3,
        "first_visit": "2026-11-23T02:39:18.123456Z",
        "last_visit": "2026-11-23T07:38:18.123456Z",
        "pages": [{"url": "/a", "views": 2}, {"url": "/b", "views": 1}],
    });
    let mut window = json!({
        "community_id": 42,
        "days": 7,
        "from": "2026-11-16T07:39:18.123000Z",
        "to": "2026-11-23T07:39:18.123000Z",
        "event_types": ["page_view"],
    });
    let answer = site.get(&format!("{HISTORY}/7?days=7")).await.json();
    let mut expected = window.clone();
    expected
        .as_object_mut()
        .unwrap()
        .extend(one.as_object().unwrap().clone());
    assert_eq!(answer, expected);
    let answer = site
        .get(&format!("{HISTORY}?days=7&sort=visit_count"))
        .await
        .json();
    window["sort"] = "visit_count".into();
    window["visitors"] = json!([one]);
    window["next"] = Value::Null;
    assert_eq!(answer, window);
}

#[tokio::test]
async fn s35_who_is_not_shown_is_passed_over_and_found_nowhere() {
    let site = site(&["1", "4", "5"], &["1", "2", "3", "4", "5"]);
    let first = site.get(&format!("{HISTORY}?limit=2")).await.json();
    let users = |answer: &Value| {
        let visitors = answer["visitors"].as_array().unwrap().iter();
        visitors
            .map(|visitor| visitor["user_id"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(users(&first), [1]);
    let next = first["next"].as_str().unwrap();
    let second = site.get(&format!("{HISTORY}?limit=2&cursor={next}")).await.json();
    assert_eq!(
        (users(&second), &second["next"]),
        (vec![json!(4), json!(5)], &Value::Null)
    );
    assert_eq!(second["to"], first["to"]);
    for nobody in ["2", "99"] {
        let answer = site.get(&format!("{HISTORY}/{nobody}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{nobody}");
    }
}

#[tokio::test]
async fn s35_without_identities_nobody_is_named() {
    let site = Site::with(|settings| settings.identities = false);
    *site.store.past.lock().unwrap() = vec![visitor("7", 1)];
    site.store.profile("7");
    assert_eq!(site.get(HISTORY).await.json()["visitors"], json!([]));
    assert_eq!(
        site.get(&format!("{HISTORY}/7")).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn s36_what_is_out_of_range_is_refused_with_the_range() {
    let site = site(&["7"], &["7"]);
    for (rest, detail) in [
        ("?days=0", "days must be a whole number from 1 to 366."),
        ("?days=367", "days must be a whole number from 1 to 366."),
        ("?limit=201", "limit must be a whole number from 1 to 200."),
        ("?limit=-1", "limit must be a whole number from 1 to 200."),
        (
            "?sort=name",
            "sort must be last_visit, visit_count or first_visit.",
        ),
        (
            "?cursor=x",
            "cursor must be a value of next from an earlier answer.",
        ),
        (
            "?cursor=AQAAAAAAAAAANw",
            "cursor must be a value of next from an earlier answer.",
        ),
        (
            "?page=2",
            "This path takes no query parameters but days and sort and limit and cursor.",
        ),
        ("?sort=last_visit&sort=last_visit", "sort may be given once."),
        ("/7?limit=1", "This path takes no query parameters but days."),
        (
            "/seven",
            "The user must be a whole number from -9223372036854775808 to 9223372036854775807.",
        ),
        (
            "/9223372036854775808",
            "The user must be a whole number from -9223372036854775808 to 9223372036854775807.",
        ),
    ] {
        let answer = site.get(&format!("{HISTORY}{rest}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{rest}");
        assert_eq!(answer.json()["detail"], detail, "{rest}");
    }
}

/// Or a cursor made by hand would show what was before the longest window.
#[tokio::test]
async fn s36_a_cursor_is_taken_for_an_hour() {
    let site = site(&["7"], &["7"]);
    let place = PastPlace {
        value: i64::MAX >> 8,
        user: "7".into(),
    };
    for (age, status) in [
        (TimeDelta::zero(), StatusCode::OK),
        (TimeDelta::minutes(60), StatusCode::OK),
        (
            TimeDelta::milliseconds(60 * 60 * 1000 + 1),
            StatusCode::BAD_REQUEST,
        ),
        (TimeDelta::days(366), StatusCode::BAD_REQUEST),
        (now() - DateTime::UNIX_EPOCH, StatusCode::BAD_REQUEST),
    ] {
        let (to, place) = (
            now().trunc_subsecs(3) + TimeDelta::milliseconds(1) - age,
            place.clone(),
        );
        let belonging = Belonging::new(&"42".into(), 30, PastSort::LastVisit);
        let cursor = PastCursor { to, place, belonging };
        let cursor = cursor.encode();
        let answer = site.get(&format!("{HISTORY}?cursor={cursor}")).await;
        assert_eq!(answer.status, status, "{age}");
        if status == StatusCode::BAD_REQUEST {
            let detail = "cursor must be a value of next from an earlier answer.";
            assert_eq!(answer.json()["detail"], detail, "{age}");
        }
    }
}

#[tokio::test]
async fn s36_who_may_not_see_the_community_sees_no_past_visitors() {
    let site = site(&["7"], &["7"]);
    for path in [HISTORY.to_owned(), format!("{HISTORY}/7")] {
        let answer = send(&site.api, http::Method::GET, &path, anonymous()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        let elsewhere = site.get(&path.replace("42", "43")).await;
        assert_eq!(elsewhere.status, StatusCode::NOT_FOUND, "{path}");
        *site.store.mood.lock().unwrap() = Mood::Away;
        assert_eq!(
            site.get(&format!("{path}?days=9")).await.status,
            StatusCode::SERVICE_UNAVAILABLE
        );
        *site.store.mood.lock().unwrap() = Mood::Fine;
        let head = send(&site.api, http::Method::HEAD, &path, super::support::member()).await;
        assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0), "{path}");
    }
}

/// Or its value would be compared with what it is not: a moment with a number of visits, another community's with this one's.
#[tokio::test]
async fn s38_a_cursor_is_taken_for_its_own_list_alone() {
    let site = site(&["7", "8", "9"], &["7", "8", "9"]);
    site.store.community("44");
    let asked = |rest: &str| format!("{HISTORY}?days=30&sort=first_visit&limit=1{rest}");
    let first = site.get(&asked("")).await.json();
    let next = first["next"].as_str().unwrap();
    let second = site.get(&asked(&format!("&cursor={next}"))).await.json();
    assert_eq!(second["visitors"][0]["user_id"], 8);
    // The default of `days`, another page's size, another spelling of the community.
    for own in [
        format!("{HISTORY}?sort=first_visit&limit=2&cursor={next}"),
        format!("/api/communities/0042/visitors/history?sort=first_visit&cursor={next}"),
    ] {
        assert_eq!(site.get(&own).await.status, StatusCode::OK, "{own}");
    }
    for other in [
        format!("{HISTORY}?days=30&limit=1&cursor={next}"),
        format!("{HISTORY}?days=30&sort=visit_count&limit=1&cursor={next}"),
        format!("{HISTORY}?days=29&sort=first_visit&limit=1&cursor={next}"),
        format!("/api/communities/44/visitors/history?sort=first_visit&cursor={next}"),
    ] {
        let answer = site.get(&other).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{other}");
        assert_eq!(
            answer.json()["detail"],
            "cursor belongs to another community, days or sort. \
             Send those of its own list, or no cursor for the first page.",
            "{other}"
        );
    }
}

/// Whoever was not there, does not exist, or is hidden: one text, to whoever may see the community. To others there is no such
/// community, whoever is asked for.
#[tokio::test]
async fn s39_what_is_missing_is_named() {
    let detail = async |site: &Site, path: &str| {
        let answer = site.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        answer.json()["detail"].as_str().unwrap().to_owned()
    };
    let no_visitor =
        "There was no such visitor in the community in these days, or you may not see who it was.";
    let no_community = "There is no such community, or you may not see it.";
    let shown = site(&["7"], &["7", "8"]);
    for nobody in ["8", "99"] {
        assert_eq!(detail(&shown, &format!("{HISTORY}/{nobody}")).await, no_visitor);
        let elsewhere = format!("/api/communities/43/visitors/history/{nobody}");
        assert_eq!(detail(&shown, &elsewhere).await, no_community);
    }
    let unnamed = Site::with(|settings| settings.identities = false);
    *unnamed.store.past.lock().unwrap() = vec![visitor("7", 1)];
    unnamed.store.profile("7");
    assert_eq!(detail(&unnamed, &format!("{HISTORY}/7")).await, no_visitor);
    let users = "/api/visitors/users?ids=7";
    assert_eq!(detail(&unnamed, users).await, "Who is on the site is not shown.");
}

/// A page below the community may be of something that the caller may not see.
#[tokio::test]
async fn a28_visitors_are_told_of_the_communitys_own_pages_unless_the_operator_says_otherwise() {
    for (pages, told) in [
        (None, &["/c/42/"][..]),
        (Some(Pages::Own), &["/c/42/"]),
        (Some(Pages::All), &["/c/42/secret-report/7/", "/c/42/"]),
        (Some(Pages::None), &[]),
    ] {
        let site = Site::with(|settings| settings.pages = pages.unwrap_or(settings.pages));
        let file = RouteFile {
            path: "a.toml".into(),
            text: "[[route]]\nname = 'c'\npattern = '^/c/(?P<community>\\d+)/$'\n\
                   [[route]]\nname = 'thread'\npattern = '^/c/(?P<community>\\d+)/.*$'\ngrants = true\n"
                .into(),
        };
        let table = RouteTable::compile(&[file]).unwrap();
        site.api.shared.intake.routes.store(std::sync::Arc::new(table));
        site.store.profile("7");
        *site.store.past.lock().unwrap() = vec![PastVisitor {
            pages: vec![("/c/42/secret-report/7/".into(), 2), ("/c/42/".into(), 1)],
            ..visitor("7", 1)
        }];
        let list = site.get(HISTORY).await.json();
        let one = site.get(&format!("{HISTORY}/7")).await.json();
        for visitor in [&list["visitors"][0], &one] {
            let urls = visitor["pages"].as_array().unwrap().iter();
            let urls: Vec<_> = urls.map(|page| page["url"].as_str().unwrap()).collect();
            assert_eq!(urls, told, "{pages:?}");
            assert_eq!(visitor["page_views"], 3);
        }
    }
}
