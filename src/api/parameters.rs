//! Parameters that several operations have, as the contract describes them. Paths and queries themselves are read in
//! `paths` and `query`.

use utoipa::IntoParams;

/// The community in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its derived description is used")]
pub(super) struct CommunityInPath {
    /// The community's key
    #[param(min_length = 1, example = "42")]
    community: String,
}

/// Something finer in the community of a path. The name of the parameter becomes that of its kind.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its derived description is used")]
pub(super) struct FinerInPath {
    /// Which one, as the site's own paths spell it
    #[param(min_length = 1, example = "7")]
    scope: String,
}

/// Which page of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its derived description is used")]
pub(super) struct PageOfList {
    /// Entries per page
    #[param(minimum = 1, nullable = false)]
    limit: Option<u32>,
    /// `next` of the page before
    #[param(nullable = false)]
    cursor: Option<String>,
}
