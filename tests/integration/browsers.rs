//! What today's browsers send for pages, and what becomes of it: each is taken through every case of one table.

mod site;
mod table;

use std::collections::BTreeMap;

use crate::support::browsers::{ELSEWHERE, Engine};
use crate::support::service::{free_port, in_time};
use crate::support::tls::Certificate;
use crate::support::world::{Wanted, World};
use site::{Progress, Site};
use table::{Row, Table};

/// Takes a browser through all cases that it has over a scheme; compares what it sends, and what is counted, with the
/// table.
async fn tour(engine: Engine, scheme: &str) {
    let world = World::usual().await;
    let member = world.member("alice").await;
    let rows = Table::read().of(engine.name(), scheme);
    let mut cases: Vec<_> = rows.iter().map(|row| row.case.clone()).collect();
    cases.dedup();
    let mut site = Site::start(world.seeded.community("rust"), cases.clone()).await;
    let certificate = Certificate::of("localhost");
    let port = free_port();
    let wanted = Wanted {
        servers: Some(vec![site.address()]),
        record: "unmatched = false".into(),
        config: format!(
            "[api]\nbeacon_rate = 600\n[widget]\ninject = true\n{}",
            certificate.listener(port)
        ),
        ..Wanted::usual()
    };
    let sidecar = world.another_sidecar(&wanted);
    let enter = format!("/tour/enter?{}", member.cookie());
    let url = match scheme {
        "https" => format!("https://localhost:{port}{enter}"),
        _ => format!("http://{ELSEWHERE}:{}{enter}", sidecar.port),
    };
    let browser = engine.open(&url, &certificate, port);
    loop {
        let what = format!("{} over {scheme} in or after {:?}", engine.name(), site.at());
        match in_time(&what, site.gets_on()).await {
            Progress::Asked(_) => {}
            Progress::Trouble(text) => panic!("{what}: {text}\n{}", browser.log()),
            Progress::Ended => break,
        }
    }
    drop(browser);

    let (mut views, mut reported, mut others) = (BTreeMap::new(), 0, BTreeMap::new());
    for (number, case) in cases.iter().enumerate() {
        let of_case: Vec<&Row> = rows.iter().filter(|row| row.case == *case).collect();
        let requests = site.heard(number);
        assert!(!requests.is_empty(), "{case}: nothing was asked for");
        for request in requests {
            let sent = table::sent(&request);
            let found = of_case.iter().find(|row| row.sends(scheme) == sent);
            let row = found.unwrap_or_else(|| panic!("{case}: {sent:#?} is not what the table says"));
            if row.is_counted(scheme) {
                *views.entry(site.path(number)).or_insert(0) += 1;
            } else {
                let reason = row.verdict(scheme).expect("it is of the scheme");
                *others.entry(reason.to_owned()).or_insert(0) += 1;
            }
        }
        if of_case.iter().any(|row| row.shown) {
            reported += 1;
            *views.entry(site.path(number)).or_insert(0) += 1;
        }
    }
    let accepted = "headcount_beacons_total{outcome=\"accepted\"}";
    sidecar
        .wait_for_metric(accepted, |count| count >= f64::from(reported))
        .await;
    sidecar.wait_until_idle().await;
    let mut written = BTreeMap::new();
    for view in world.page_views().await {
        let url = view["metadata"]["url"].as_str().expect("text").to_owned();
        *written.entry(url).or_insert(0) += 1;
    }
    let named = |views: BTreeMap<String, i32>| -> BTreeMap<String, i32> {
        let case = |path: &str| {
            cases
                .iter()
                .enumerate()
                .find(|(number, _)| site.path(*number) == path)
        };
        let named = views.into_iter();
        named
            .map(|(path, count)| (case(&path).map_or(path.clone(), |(_, case)| case.clone()), count))
            .collect()
    };
    assert_eq!(named(written), named(views));
    assert_eq!(sidecar.metric(accepted).await, f64::from(reported));
    for (reason, count) in others {
        let name = format!("headcount_page_views_not_counted_total{{reason=\"{reason}\"}}");
        assert_eq!(sidecar.metric(&name).await, f64::from(count), "{reason}");
    }
}

#[tokio::test]
async fn v10_chromium_over_https_is_counted_as_the_table_says() {
    tour(Engine::Chromium, "https").await;
}

#[tokio::test]
async fn v10_chromium_over_http_is_counted_as_the_table_says() {
    tour(Engine::Chromium, "http").await;
}

#[tokio::test]
async fn v10_firefox_over_https_is_counted_as_the_table_says() {
    tour(Engine::Firefox, "https").await;
}

#[tokio::test]
async fn v10_firefox_over_http_is_counted_as_the_table_says() {
    tour(Engine::Firefox, "http").await;
}

#[tokio::test]
async fn v10_webkit_over_https_is_counted_as_the_table_says() {
    tour(Engine::WebKit, "https").await;
}

#[test]
fn v10_the_manual_has_the_table() {
    let manual = include_str!("../../deploy/page-views.md");
    let table = Table::read().markdown();
    assert!(
        manual.contains(&table),
        "deploy/page-views.md is to have this table:\n\n{table}"
    );
}
