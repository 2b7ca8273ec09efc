"""Members, categories and topics. Run by `manage.py shell`; prints their keys as JSON."""
import json
from datetime import datetime, timezone

from django.contrib.auth import get_user_model
from spirit.category.models import Category
from spirit.comment.models import Comment
from spirit.topic.models import Topic

User = get_user_model()
# Pages say of what is newer than a day how old it is: two answers a second apart would differ.
OLD = datetime(2024, 1, 2, tzinfo=timezone.utc)
users = {}
for name in ('alice', 'bob', 'mallory'):
    users[name] = User.objects.create_user(name, f'{name}@site.test', 'password')
    users[name].st.is_verified = True
    users[name].st.save()

rust = Category.objects.create(title='Rust')
hidden = Category.objects.create(title='Hidden', is_removed=True)


def topic_of(category, title):
    return Topic.objects.create(user=users['alice'], category=category, title=title, date=OLD, last_active=OLD)


topic, private = topic_of(rust, 'Borrow checker'), topic_of(hidden, 'Secret plan')
Comment.objects.create(
    user=users['alice'], topic=topic, comment='Hello', comment_html='<p>Hello</p>', date=OLD)
print(json.dumps({
    'users': {name: user.pk for name, user in users.items()},
    'communities': {'rust': rust.pk, 'hidden': hidden.pk},
    'pages': {
        'community': rust.get_absolute_url(),
        'topic': topic.get_absolute_url(),
        'hidden': hidden.get_absolute_url(),
        'hidden_topic': private.get_absolute_url(),
    },
}))
