//! Operations that find communities, and the types of the app's keys.

use std::borrow::Cow;

use super::{Backend, Runs, StoreOperation};
use crate::ids::CommunityId;
use crate::key_type::KeyTypes;
use crate::store::schema::{AppSchema, Column, CommunityTable, TableName};

/// The types of the app's keys, which are part of the schema that every operation reads.
pub(in crate::store) struct ReadKeys;

impl StoreOperation for ReadKeys {
    type Output = KeyTypes;
}

impl<B: Backend> Runs<ReadKeys> for B {
    async fn run(_: &ReadKeys, app: &AppSchema, _: &mut B::Connection) -> Result<KeyTypes, sqlx::Error> {
        Ok(app.keys())
    }
}

/// A community.
#[derive(Clone, Copy)]
pub(in crate::store) enum FindCommunity<'a> {
    /// The one with a slug.
    BySlug(&'a str),
    /// The one with a key; the answer is spelled as its row has it.
    ByKey(&'a CommunityId),
    /// That of a row of another table: the name of the lookup, and the row's key.
    Through(&'a str, &'a str),
}

/// Where a community is looked for.
pub(in crate::store) struct CommunityCriterion<'a> {
    pub table: &'a TableName,
    /// The column that is the community's key.
    pub id: &'a Column,
    /// The column to look in, and the value to look for.
    pub column: &'a Column,
    pub value: Cow<'a, str>,
}

impl<'a> FindCommunity<'a> {
    /// Where to look; otherwise the answer, which is known without.
    pub(in crate::store) fn criterion<'t: 'a>(
        &self,
        app: &'t AppSchema,
    ) -> Result<CommunityCriterion<'a>, Option<CommunityId>> {
        let of = |communities: &'t CommunityTable, column, value| CommunityCriterion {
            table: &communities.table,
            id: &communities.id,
            column,
            value: Cow::Borrowed(value),
        };
        let communities = app.community.as_ref();
        let criterion = match (*self, communities) {
            (Self::BySlug(slug), Some(table)) => table.slug.as_ref().map(|column| of(table, column, slug)),
            // Text that cannot be a key is that of no community.
            (Self::ByKey(key), Some(table)) => {
                let is_key = table.id.is_key(key.as_str());
                is_key.then(|| of(table, &table.id, key.as_str()))
            }
            // Where the app has no table of communities any key is that of one, and no slug is.
            (Self::ByKey(key), None) => return Err(Some(key.clone())),
            (Self::BySlug(_), None) => None,
            (Self::Through(lookup, key), _) => app.lookups.get(lookup).and_then(|lookup| {
                Some(CommunityCriterion {
                    table: &lookup.table,
                    id: &lookup.community,
                    column: &lookup.key,
                    value: lookup.key.key_type().canonical(key)?,
                })
            }),
        };
        criterion.ok_or(None)
    }
}

/// The slug of a community.
pub(in crate::store) struct FindSlug<'a>(pub &'a CommunityId);

impl StoreOperation for FindSlug<'_> {
    type Output = Option<String>;
    const WHAT: &'static str = "a lookup of a community";
}

impl FindSlug<'_> {
    /// The table of communities and its column of slugs, where they have some and the id can be a key at all.
    pub(in crate::store) fn columns<'t>(
        &self,
        app: &'t AppSchema,
    ) -> Option<(&'t CommunityTable, &'t Column)> {
        let communities = app.community.as_ref()?;
        let slug = communities.slug.as_ref()?;
        communities
            .id
            .is_key(self.0.as_str())
            .then_some((communities, slug))
    }
}

impl StoreOperation for FindCommunity<'_> {
    type Output = Option<CommunityId>;
    const WHAT: &'static str = "a lookup of a community";
}
