//! Keys of communities: one form for each, whatever type the app's column has.

use headcount::communities::{Communities, NotCached, PageCommunity};
use headcount::config::CommunityIdAs;
use headcount::config::CommunityKey;
use headcount::ids::CommunityId;
use headcount::routes::CommunityRef;
use headcount::store::{PastAsked, PastWindow};
use serde_json::json;

use super::{alice, in_community, stats_of_march};
use crate::store_site::{SessionRow, Site, Variant, at, batch, page_view};

contract! {
    v20_what_the_app_wrote_in_another_spelling_counts,
    v20_keys_that_are_text_are_taken_as_they_are,
    v20_spellings_that_the_table_takes_for_equal_are_one_key,
    v21_what_is_no_key_of_the_columns_type_is_no_community,
    v22_the_type_of_a_key_in_metadata_is_the_columns,
    v22_what_is_true_is_not_one,
    s13_a_key_of_more_digits_than_an_integer_has_counts_as_text_and_as_a_number,
}

/// Has the app give its communities keys that are text.
async fn with_text_keys(site: &Site) {
    with_keys(site, "varchar(50)").await;
}

/// The same, in a column of this type.
async fn with_keys(site: &Site, declared: &str) {
    let table = site.table(&site.config.schema.community.table);
    let slug = &site.config.schema.community.columns.slug;
    let name = if site.variant.is_renamed() {
        ""
    } else {
        r#", "name" varchar(200) NOT NULL"#
    };
    site.execute(&format!(
        r#"DROP TABLE {table};
           CREATE TABLE {table} ("id" {declared} NOT NULL PRIMARY KEY, "{slug}" varchar(80) NOT NULL UNIQUE{name})"#
    ))
    .await;
    let (more, value) = if site.variant.is_renamed() {
        ("", "")
    } else {
        (r#", "name""#, ", 'A name'")
    };
    for id in ["7", "007", "General", "true"] {
        site.execute(&format!(
            r#"INSERT INTO {table} ("id", "{slug}"{more}) VALUES ('{id}', 'slug-of-{id}'{value})"#
        ))
        .await;
    }
}

async fn v20_what_the_app_wrote_in_another_spelling_counts(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    let alice = site.member("alice").await;
    let key = gardening.as_str();
    let spellings = if variant.is_renamed() {
        let (bare, upper) = (key.replace('-', ""), key.to_uppercase());
        let all = [
            key.to_owned(),
            bare.clone(),
            upper,
            bare.to_uppercase(),
            format!("{{{key}}}"),
        ];
        all.map(|spelling| json!(spelling)).to_vec()
    } else {
        vec![json!(key), json!(key.parse::<i64>().unwrap())]
    };
    for spelling in &spellings {
        let metadata = json!({"community_id": spelling, "source": "headcount"});
        site.app_event(&alice, "page_view", &metadata.to_string(), "2024-03-01T10:00:00Z")
            .await;
    }
    let stats = stats_of_march(&site, &gardening).await;
    assert_eq!(
        stats.page_views,
        i64::try_from(spellings.len()).unwrap(),
        "{spellings:?}"
    );
    assert_eq!(stats.total_visitors, 1);
}

/// As floating-point numbers the two keys are the same.
async fn s13_a_key_of_more_digits_than_an_integer_has_counts_as_text_and_as_a_number(variant: Variant) {
    let site = Site::new(variant).await;
    with_text_keys(&site).await;
    let alice = site.member("alice").await;
    let (key, other) = ("12345678901234567890", "12345678901234567891");
    let quoted = format!("\"{key}\"");
    for written in [key, key, &quoted, other, "1.23456789012346e+19"] {
        let metadata = format!(r#"{{"community_id": {written}}}"#);
        site.app_event(&alice, "page_view", &metadata, "2024-03-01T10:00:00Z")
            .await;
    }
    for (key, views) in [(key, 3), (other, 1)] {
        let stats = stats_of_march(&site, &key.into()).await;
        assert_eq!(stats.page_views, views, "{key}");
    }
}

async fn v20_keys_that_are_text_are_taken_as_they_are(variant: Variant) {
    let site = Site::new(variant).await;
    with_text_keys(&site).await;
    let alice = site.member("alice").await;
    let session = site
        .session(&alice, "token-of-alice", SessionRow::default())
        .await;
    for (community, views) in [("7", 1), ("007", 2), ("General", 3), ("general", 0)] {
        let community = CommunityId::from(community);
        if views > 0 {
            let views = vec![page_view("2024-03-01T10:00:00Z"); views];
            site.store
                .apply(&batch(&session, &community, views))
                .await
                .unwrap();
        }
        assert_eq!(
            site.store.community_by_key(&community).await.unwrap().is_some(),
            views > 0
        );
    }
    for (community, views) in [("7", 1), ("007", 2), ("General", 3), ("general", 0)] {
        let stats = stats_of_march(&site, &community.into()).await;
        assert_eq!(stats.page_views, views, "{community}");
        let window = PastWindow {
            community: community.into(),
            from: at("2024-03-01T00:00:00Z"),
            to: at("2024-04-01T00:00:00Z"),
        };
        let asked = PastAsked::One(alice.clone());
        let found = site.store.past_visitors(&window, &asked).await.unwrap();
        let past = found.first().map_or(0, |visitor| visitor.page_views);
        assert_eq!(past, views, "{community}");
    }
    let found = site.store.community_by_slug("slug-of-007").await.unwrap();
    assert_eq!(found, Some("007".into()));
}

async fn v20_spellings_that_the_table_takes_for_equal_are_one_key(variant: Variant) {
    let site = Site::new(variant).await;
    let columns: &[(&str, &str)] = if variant.is_postgres() {
        site.execute(
            "CREATE EXTENSION citext;
             CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        )
        .await;
        let any_case = "varchar(50) COLLATE any_case";
        &[
            ("citext", "GENERAL"),
            ("char(10)", "General  "),
            (any_case, "gENERAL"),
        ]
    } else {
        &[
            ("varchar(50) COLLATE NOCASE", "GENERAL"),
            ("varchar(50) COLLATE RTRIM", "General "),
        ]
    };
    for (declared, spelling) in columns {
        with_keys(&site, declared).await;
        let store = site.reconfigured(|_| {});
        let communities = Communities::new(store.clone());
        for spelling in [spelling, "General"] {
            let found = communities.find(spelling, CommunityKey::Id).await.unwrap();
            assert_eq!(found.map(|found| found.id), Some("General".into()), "{declared}");
        }
        let communities = Communities::new(store);
        let named = CommunityRef::Id((*spelling).into());
        assert_eq!(communities.cached(Some(&named)), Err(NotCached), "{declared}");
        let general = PageCommunity::Community("General".into());
        assert_eq!(communities.named(&named).await.unwrap(), general, "{declared}");
        assert_eq!(communities.cached(Some(&named)), Ok(general), "{declared}");
        // It may be there soon.
        let cooking = CommunityRef::Id("cooking".into());
        let named = communities.named(&cooking).await.unwrap();
        assert_eq!(named, PageCommunity::Community("cooking".into()), "{declared}");
        assert_eq!(
            communities.find("cooking", CommunityKey::Id).await.unwrap(),
            None,
            "{declared}"
        );
    }
}

async fn v21_what_is_no_key_of_the_columns_type_is_no_community(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, _, _) = alice(&site).await;
    for text in ["abc", "99999999999999999999", "1.0", "+1", "", "\0", "{}"] {
        let community = CommunityId::from(text);
        site.app_event(
            &alice,
            "page_view",
            &in_community(&text.replace('\0', "").as_str().into()),
            "2024-03-01T10:00:00Z",
        )
        .await;
        assert_eq!(
            site.store.community_by_key(&community).await.unwrap(),
            None,
            "{text}"
        );
        let stats = stats_of_march(&site, &community).await;
        assert_eq!((stats.page_views, stats.total_visitors), (0, 0), "{text}");
    }
}

async fn v22_the_type_of_a_key_in_metadata_is_the_columns(variant: Variant) {
    let as_number = |config: &mut headcount::config::Config| {
        config.record.community_id_as = CommunityIdAs::Number;
    };
    let site = Site::with(variant, as_number).await;
    with_text_keys(&site).await;
    let alice = site.member("alice").await;
    let session = site
        .session(&alice, "token-of-alice", SessionRow::default())
        .await;
    let views = batch(&session, &"7".into(), vec![page_view("2024-03-01T10:00:00Z")]);
    site.store.apply(&views).await.unwrap();
    assert_eq!(site.events().await[0].metadata["community_id"], json!("7"));
}

async fn v22_what_is_true_is_not_one(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, _, gardening) = alice(&site).await;
    if !variant.is_renamed() {
        assert_eq!(gardening.as_str(), "1");
    }
    let when = "2024-03-01T10:00:00Z";
    for metadata in [
        r#"{"community_id": true, "source": "headcount"}"#,
        r#"{"community_id": [1], "source": "headcount"}"#,
        r#"{"community_id": {"a": 1}, "source": "headcount"}"#,
    ] {
        site.app_event(&alice, "page_view", metadata, when).await;
    }
    let stats = stats_of_march(&site, &gardening).await;
    assert_eq!((stats.page_views, stats.total_visitors), (0, 0));

    let site = Site::new(variant).await;
    with_text_keys(&site).await;
    let alice = site.member("alice").await;
    site.app_event(&alice, "page_view", r#"{"community_id": true}"#, when)
        .await;
    let window = (at("2024-03-01T00:00:00Z"), at("2024-04-01T00:00:00Z"));
    for community in ["true", "1"] {
        let stats = site.store.stats(&community.into(), window.0, window.1).await;
        assert_eq!(stats.unwrap().total_visitors, 0, "{community}");
    }
}
