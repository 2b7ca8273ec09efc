//! Over which stores promises are tested.

/// One test per promise and store.
macro_rules! over_every_store {
    ($($promise:ident),* $(,)?) => {
        over_every_store! { @store in_memory: $($promise)* }
        over_every_store! { @shared $($promise)* }
    };
    (@shared $($promise:ident)*) => {
        over_every_store! { @store in_redis: $($promise)* }
        over_every_store! { @store in_redis_over_tls: $($promise)* }
        over_every_store! { @store behind_sentinels: $($promise)* }
        over_every_store! { @store in_a_cluster: $($promise)* }
    };
    (@store $store:ident: $($promise:ident)*) => {
        mod $store {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(super::Site::$store().await).await;
            })*
        }
    };
}

/// The same over those that several sidecars share.
macro_rules! over_every_shared_store {
    ($($promise:ident),* $(,)?) => {
        over_every_store! { @shared $($promise)* }
    };
}
