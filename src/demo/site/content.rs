//! The sample site's content: its members, communities and posts. All of it is safe as HTML.

/// A member of the site.
#[derive(Debug)]
pub(crate) struct Member {
    /// Primary key of the profile.
    pub(crate) id: i64,
    /// Name in paths and in the profile.
    pub(crate) username: &'static str,
    /// One line about them.
    pub(crate) about: &'static str,
    /// The community they visit most, by its index in [`COMMUNITIES`].
    pub(crate) favourite: usize,
    /// For the user of the demo to sign in as; all others are simulated.
    pub(crate) guest: bool,
}

/// A community.
#[derive(Debug)]
pub(crate) struct Community {
    /// Primary key.
    pub(crate) id: i64,
    /// Name in paths.
    pub(crate) slug: &'static str,
    /// Name for people.
    pub(crate) name: &'static str,
    /// One sentence about it.
    pub(crate) about: &'static str,
    /// Posts, numbered from 1.
    pub(crate) posts: &'static [Post],
}

/// A post of a community.
#[derive(Debug)]
pub(crate) struct Post {
    /// Headline.
    pub(crate) title: &'static str,
    /// Who wrote it: a member's username.
    pub(crate) author: &'static str,
    /// One paragraph.
    pub(crate) body: &'static str,
}

/// Every member.
pub(crate) const MEMBERS: &[Member] = &[
    member(1, "ada", "Programs machines yet to be built", 1, true),
    member(2, "grace", "Keeps a moth in her notebook", 2, true),
    member(3, "fermin", "Bakes at four in the morning", 0, false),
    member(4, "ines", "Has opinions about hydration", 0, false),
    member(5, "olumide", "Repairs what others throw away", 2, false),
    member(6, "sunniva", "Counts birds, badly", 2, false),
    member(7, "takeshi", "Walks the long way round", 1, false),
    member(8, "zofia", "Sleeps when it is cloudy", 1, false),
    member(9, "marisol", "Names every sourdough starter", 0, false),
    member(10, "bram", "Owns too many binoculars", 1, false),
];

/// Every community.
pub(crate) const COMMUNITIES: &[Community] = &[
    Community {
        id: 1,
        slug: "sourdough",
        name: "Slow Sourdough",
        about: "Flour, water, salt, and a great deal of waiting.",
        posts: &[
            Post {
                title: "My starter outgrew its jar overnight",
                author: "marisol",
                body: "I fed Clint Yeastwood before bed and woke up to a kitchen counter that is now, \
                       technically, dough. How large a jar do you keep, and do you ever really need more \
                       than a spoonful?",
            },
            Post {
                title: "Cold proof: how long is too long?",
                author: "fermin",
                body: "Forty-eight hours gave the best crust of my life, seventy-two gave me soup. Somewhere \
                       between the two lies happiness. Please post your fridge temperature along with your \
                       hours, or the numbers mean nothing.",
            },
            Post {
                title: "In defence of the ugly loaf",
                author: "ines",
                body: "It spread, it tore on the wrong side, it looks like a map of nowhere. It was gone in \
                       ten minutes. Show us yours.",
            },
        ],
    },
    Community {
        id: 2,
        slug: "night-sky",
        name: "Night Sky Watchers",
        about: "Looking up together, wherever it is dark.",
        posts: &[
            Post {
                title: "First light with a second-hand telescope",
                author: "zofia",
                body: "Forty euros, one missing screw, and Saturn with its rings on the first clear night. I \
                       may have woken the neighbours. What should a beginner look at next?",
            },
            Post {
                title: "The best dark place within an hour of town",
                author: "takeshi",
                body: "The reservoir car park is good until the football ends. Beyond the quarry it is darker, \
                       but take a friend and a torch with a red filter.",
            },
            Post {
                title: "Clouds again: what do you do instead?",
                author: "bram",
                body: "Eleven nights in a row. I have cleaned every lens I own. Recommend me a book before I \
                       start on the windows.",
            },
        ],
    },
    Community {
        id: 3,
        slug: "repair-cafe",
        name: "Repair Café",
        about: "If it is broken, bring it. If it is not, we will find out why.",
        posts: &[
            Post {
                title: "The toaster that only toasts one side",
                author: "olumide",
                body: "Three toasters this month with the same fault: one broken ribbon, easily crimped. Here \
                       is how to open it without the springs leaving the building.",
            },
            Post {
                title: "A radio from 1962 plays again",
                author: "sunniva",
                body: "Two new capacitors and an evening of contact cleaner. The first thing it received was \
                       the weather forecast: rain. It was right.",
            },
            Post {
                title: "Which glue for what? A short table",
                author: "grace",
                body: "Wood to wood, plastic to metal, sole to shoe. Add your own lines below, and tell us \
                       what failed: that half of the table is the useful one.",
            },
        ],
    },
];

const fn member(
    id: i64,
    username: &'static str,
    about: &'static str,
    favourite: usize,
    guest: bool,
) -> Member {
    Member {
        id,
        username,
        about,
        favourite,
        guest,
    }
}

/// The member with this username.
pub(crate) fn member_by_name(username: &str) -> Option<&'static Member> {
    MEMBERS.iter().find(|member| member.username == username)
}

/// The community with this id.
pub(crate) fn community_by_id(id: i64) -> Option<&'static Community> {
    COMMUNITIES.iter().find(|community| community.id == id)
}

/// The community with this slug.
pub(crate) fn community_by_slug(slug: &str) -> Option<&'static Community> {
    COMMUNITIES.iter().find(|community| community.slug == slug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_post_has_an_author_who_is_a_member() {
        for post in COMMUNITIES.iter().flat_map(|community| community.posts) {
            assert!(member_by_name(post.author).is_some(), "{}", post.author);
        }
    }

    #[test]
    fn somebody_is_left_for_the_person_who_tries_the_demo() {
        assert!(MEMBERS.iter().any(|member| member.guest));
        assert!(MEMBERS.iter().any(|member| !member.guest));
    }
}
