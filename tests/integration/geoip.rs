//! `location_data` from a database of places.

use serde_json::{Value, json};

use crate::support::backend;
use crate::support::world::Wanted;

#[tokio::test]
async fn a_view_says_from_where_as_far_as_the_database_knows() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("places.mmdb");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/support/geoip.py");
    backend::python_script(script, &[file.to_str().unwrap()]);

    let mut wanted = Wanted::usual();
    wanted.record = format!("geoip_database = \"{}\"", file.display());
    wanted.config = "[limits]\ntrusted_proxies = [\"127.0.0.0/8\"]".into();
    let world = wanted.start().await;
    let alice = world.member("alice").await;
    for client in ["203.0.113.9", "198.51.100.1", "192.0.2.1"] {
        let page = alice
            .navigation(&world.community("rust"))
            .header("x-forwarded-for", client);
        assert!(page.send().await.unwrap().status().is_success());
    }
    let views = world.wait_for_views(3).await;
    let places: Vec<(&Value, &Value)> = views
        .iter()
        .map(|view| (&view["ip_address"], &view["location_data"]))
        .collect();
    let wellington = json!({"country": "NZ", "region": "Wellington Region", "city": "Wellington"});
    assert_eq!(
        places,
        [
            (&json!("203.0.113.9"), &wellington),
            (&json!("198.51.100.1"), &json!({"country": "IS"})),
            (&json!("192.0.2.1"), &json!({})),
        ]
    );
}
