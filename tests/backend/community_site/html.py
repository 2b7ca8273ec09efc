from django.utils.html import escape


def page(title, body):
    return f'''<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{escape(title)}</title>
<link rel="stylesheet" href="/static/site.css"></head>
<body>
<nav><a href="/">Home</a><a href="/about/">About</a></nav>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
'''
