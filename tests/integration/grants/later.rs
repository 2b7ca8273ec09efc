//! Rights and tables that come back while the sidecar runs: they are used, and the log and `/readyz` say so, without a page
//! view.

use super::execute;
use super::revoked::{readyz, says, under_a_role};
use crate::support::backend::Variant;
use crate::support::world::{Parts, Wanted};

#[tokio::test]
async fn v45_what_is_in_order_again_is_logged_once_and_readyz_clears_without_a_view() {
    let wanted = Wanted {
        config: "[counters]\nenabled = true\n".into(),
        ..Wanted::new(Parts::Production, Variant::Counters)
    };
    let (world, role) = under_a_role(wanted).await;
    let (alice, rust) = (world.member("alice").await, world.community("rust"));
    alice.sees(&rust).await;
    world.wait_for_views(1).await;
    assert_eq!(readyz(&world).await, "ok\n");

    let rights = [
        "INSERT ON TABLE headcount.counter_delta",
        r#"UPDATE ("page_views") ON TABLE "public"."communities_community""#,
    ];
    for right in rights {
        execute(&world.database, &format!("REVOKE {right} FROM {}", role.name)).await;
    }
    alice.sees(&rust).await;
    world.wait_for_views(2).await;
    let grants = rights.map(|right| format!("GRANT {right} TO \"{}\";", role.name));
    says(&world, |text| {
        // Nothing but what names the role and what to paste.
        grants.iter().all(|grant| text.contains(grant)) && !text.contains("permission denied")
    })
    .await;
    for grant in &grants {
        execute(&world.database, grant).await;
    }
    says(&world, |text| text == "ok\n").await;
    world.sidecar.says("the counters have the page views again");

    let rename = async |from: &str, to: &str| {
        let sql = format!("ALTER TABLE headcount.{from} RENAME TO {to}");
        execute(&world.database, &sql).await;
    };
    rename("applied_batch", "kept_elsewhere").await;
    alice.sees(&rust).await;
    says(&world, |text| text.contains("the ledger is not in order")).await;
    rename("kept_elsewhere", "applied_batch").await;
    says(&world, |text| text == "ok\n").await;
    world.wait_for_views(3).await;

    let log = world.sidecar.log();
    for line in [
        "the app's tables, and the role's rights on them, are as configured again",
        "the ledger of applied batches is in order again",
        "page views were written that the counters lack",
        "the counters have the page views again that they lacked",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{line}: {log}");
    }
}
