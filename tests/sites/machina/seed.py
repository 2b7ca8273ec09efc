"""Members, forums and topics. Run by `manage.py shell`; prints their keys as JSON."""
import json

from django.contrib.auth import get_user_model
from django.urls import reverse
from machina.core.db.models import get_model

User = get_user_model()
Forum = get_model('forum', 'Forum')
Topic = get_model('forum_conversation', 'Topic')
Post = get_model('forum_conversation', 'Post')
Permission = get_model('forum_permission', 'ForumPermission')
UserPermission = get_model('forum_permission', 'UserForumPermission')


def forum(name):
    return Forum.objects.create(name=name, type=Forum.FORUM_POST)


def topic(of, poster, subject):
    topic = Topic.objects.create(
        forum=of, poster=poster, subject=subject, type=Topic.TOPIC_POST, status=Topic.TOPIC_UNLOCKED, approved=True)
    Post.objects.create(topic=topic, poster=poster, subject=subject, content='Hello', approved=True)
    return topic


def forum_page(of):
    return reverse('forum:forum', kwargs={'slug': of.slug, 'pk': of.pk})


def topic_page(topic):
    of = topic.forum
    return reverse('forum_conversation:topic', kwargs={
        'forum_slug': of.slug, 'forum_pk': of.pk, 'slug': topic.slug, 'pk': topic.pk})


users = {
    name: User.objects.create_user(name, f'{name}@site.test', 'password') for name in ('alice', 'bob', 'mallory')
}
rust, hidden = forum('Rust'), forum('Hidden')
borrow, secret = topic(rust, users['alice'], 'Borrow checker'), topic(hidden, users['alice'], 'Secret plan')
# The hidden forum is for alice and bob.
for codename in ('can_see_forum', 'can_read_forum'):
    permission = Permission.objects.get(codename=codename)
    UserPermission.objects.create(
        permission=permission, forum=hidden, authenticated_user=True, has_perm=False)
    for name in ('alice', 'bob'):
        UserPermission.objects.create(permission=permission, forum=hidden, user=users[name], has_perm=True)

print(json.dumps({
    'users': {name: user.pk for name, user in users.items()},
    'communities': {'rust': rust.pk, 'hidden': hidden.pk},
    'pages': {
        'community': forum_page(rust),
        'topic': topic_page(borrow),
        'hidden': forum_page(hidden),
        'hidden_topic': topic_page(secret),
    },
}))
