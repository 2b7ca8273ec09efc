"""Members, categories and topics. Run by `manage.py shell`; prints their keys as JSON."""
import json

from django.contrib.auth import get_user_model
from spirit.category.models import Category
from spirit.comment.models import Comment
from spirit.topic.models import Topic

User = get_user_model()
users = {}
for name in ('alice', 'bob', 'mallory'):
    users[name] = User.objects.create_user(name, f'{name}@site.test', 'password')
    users[name].st.is_verified = True
    users[name].st.save()

rust = Category.objects.create(title='Rust')
hidden = Category.objects.create(title='Hidden', is_removed=True)
topic = Topic.objects.create(user=users['alice'], category=rust, title='Borrow checker')
Comment.objects.create(user=users['alice'], topic=topic, comment='Hello', comment_html='<p>Hello</p>')
private = Topic.objects.create(user=users['alice'], category=hidden, title='Secret plan')
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
