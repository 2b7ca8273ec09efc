"""Members, clubs and meetings. Run by `manage.py shell`; prints their keys as JSON."""
import json

from django.contrib.auth import get_user_model

from clubs.models import Club, Meeting, Member

User = get_user_model()
members = {
    name: Member.objects.create(user=User.objects.create_user(name, f'{name}@site.test', 'password'), photo=photo)
    for name, photo in (('alice', 'members/alice.png'), ('bob', ''), ('mallory', ''))
}
rust, hidden = (Club.objects.create(slug=name.lower(), name=name, is_private=private)
                for name, private in (('Rust', False), ('Hidden', True)))
hidden.members.set([members['alice'], members['bob']])
borrow, secret = (Meeting.objects.create(club=club, title=title)
                  for club, title in ((rust, 'Borrow checker'), (hidden, 'Secret plan')))
print(json.dumps({
    'users': {name: str(member.pk) for name, member in members.items()},
    'communities': {'rust': str(rust.pk), 'hidden': str(hidden.pk)},
    'pages': {
        'community': '/clubs/rust/',
        'topic': f'/clubs/rust/meetings/{borrow.pk}/',
        'hidden': '/clubs/hidden/',
        'hidden_beside': '/notices/club/hidden/',
        'hidden_topic': f'/clubs/hidden/meetings/{secret.pk}/',
    },
}))
