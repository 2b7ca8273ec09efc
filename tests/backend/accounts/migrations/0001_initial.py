import django.db.models.deletion
import django.utils.timezone
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='UserProfile',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('username', models.CharField(max_length=150, unique=True)),
                ('profile_picture', models.FileField(blank=True, null=True, upload_to='avatars/')),
                ('last_active', models.DateTimeField(default=django.utils.timezone.now)),
                ('user', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='profile', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'accounts_userprofile',
            },
        ),
        migrations.CreateModel(
            name='UserEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('event_type', models.CharField(choices=[('page_view', 'Page Viewed'), ('profile_view', 'Profile View'), ('post_view', 'Post Viewed'), ('search', 'Search'), ('link_click', 'Link Clicked'), ('external_link_click', 'External Link Clicked'), ('file_download', 'File Downloaded'), ('media_view', 'Media Viewed'), ('register', 'Registered'), ('login', 'Logged In'), ('logout', 'Logged Out'), ('login_failed', 'Login Failed'), ('session_start', 'Session Started'), ('session_end', 'Session Ended'), ('session_expired', 'Session Expired'), ('session_terminated', 'Session Terminated'), ('password_change', 'Password Changed'), ('password_reset_request', 'Password Reset Requested'), ('password_reset', 'Password Reset'), ('email_change', 'Email Changed'), ('email_verified', 'Email Verified'), ('two_factor_enabled', 'Two-Factor Enabled'), ('two_factor_disabled', 'Two-Factor Disabled'), ('two_factor_failed', 'Two-Factor Failed'), ('device_trusted', 'Device Trusted'), ('device_removed', 'Device Removed'), ('suspicious_login', 'Suspicious Login'), ('account_locked', 'Account Locked'), ('account_unlocked', 'Account Unlocked'), ('account_deactivated', 'Account Deactivated'), ('account_reactivated', 'Account Reactivated'), ('account_deleted', 'Account Deleted'), ('profile_update', 'Profile Updated'), ('profile_picture_update', 'Profile Picture Updated'), ('cover_update', 'Cover Updated'), ('settings_update', 'Settings Updated'), ('privacy_update', 'Privacy Settings Updated'), ('notification_settings_update', 'Notification Settings Updated'), ('language_change', 'Language Changed'), ('theme_change', 'Theme Changed'), ('community_create', 'Community Created'), ('community_update', 'Community Updated'), ('community_delete', 'Community Deleted'), ('community_join', 'Community Joined'), ('community_leave', 'Community Left'), ('community_join_request', 'Community Join Requested'), ('community_invite', 'Community Invitation Sent'), ('community_invite_accept', 'Community Invitation Accepted'), ('community_ban', 'Banned from Community'), ('community_unban', 'Unbanned from Community'), ('community_role_change', 'Community Role Changed'), ('post_create', 'Post Created'), ('post_update', 'Post Updated'), ('post_delete', 'Post Deleted'), ('post_like', 'Post Liked'), ('post_unlike', 'Post Unliked'), ('post_share', 'Post Shared'), ('post_save', 'Post Saved'), ('post_unsave', 'Post Unsaved'), ('post_report', 'Post Reported'), ('post_pin', 'Post Pinned'), ('comment_create', 'Comment Created'), ('comment_update', 'Comment Updated'), ('comment_delete', 'Comment Deleted'), ('comment_like', 'Comment Liked'), ('comment_report', 'Comment Reported'), ('poll_create', 'Poll Created'), ('poll_vote', 'Poll Voted'), ('follow', 'Followed'), ('unfollow', 'Unfollowed'), ('block', 'Blocked'), ('unblock', 'Unblocked'), ('friend_request', 'Friend Request Sent'), ('friend_accept', 'Friend Request Accepted'), ('friend_remove', 'Friend Removed'), ('message_send', 'Message Sent'), ('message_read', 'Message Read'), ('conversation_create', 'Conversation Created'), ('mention', 'Mentioned'), ('notification_read', 'Notification Read'), ('user_report', 'User Reported'), ('api_call', 'API Called'), ('error', 'Error'), ('data_export', 'Data Exported'), ('other', 'Other')], max_length=50)),
                ('description', models.TextField()),
                ('metadata', models.JSONField(default=dict)),
                ('ip_address', models.GenericIPAddressField()),
                ('user_agent', models.TextField()),
                ('device_info', models.JSONField(default=dict)),
                ('location_data', models.JSONField(default=dict)),
                ('timestamp', models.DateTimeField(auto_now_add=True, db_column='timestamp')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='events', to='accounts.userprofile')),
            ],
            options={
                'db_table': 'accounts_userevent',
            },
        ),
        migrations.CreateModel(
            name='UserSession',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('session_id', models.CharField(db_column='session_id', max_length=64, unique=True)),
                ('ip_address', models.GenericIPAddressField()),
                ('user_agent', models.TextField()),
                ('device_info', models.JSONField(default=dict)),
                ('location_data', models.JSONField(default=dict)),
                ('device_fingerprint', models.CharField(blank=True, default='', max_length=64)),
                ('fast_fingerprint', models.CharField(blank=True, default='', max_length=64)),
                ('pages_visited', models.PositiveIntegerField(default=0)),
                ('started_at', models.DateTimeField(auto_now_add=True)),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('expires_at', models.DateTimeField()),
                ('is_active', models.BooleanField(default=True)),
                ('is_ended', models.BooleanField(default=False)),
                ('persistent', models.BooleanField(default=False)),
                ('termination_reason', models.CharField(blank=True, default='', max_length=50)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='sessions', to='accounts.userprofile')),
            ],
            options={
                'db_table': 'accounts_usersession',
            },
        ),
    ]
