"""Reads an HTML page as a browser would: which elements it has, and which texts."""

import json
import sys
from html.parser import HTMLParser


class Page(HTMLParser):
    elements, texts, reaches = {}, [], []

    def handle_starttag(self, tag, attributes):
        self.elements[tag] = self.elements.get(tag, 0) + 1
        self.reaches += [a for a in attributes if a[0] in ("src", "href", "srcset", "action") or a[0].startswith("on")]

    def handle_data(self, data):
        self.texts.append(data)


page = Page(convert_charrefs=True)
page.feed(open(sys.argv[1], encoding="utf-8").read())
print(json.dumps({"elements": page.elements, "texts": page.texts, "reaches": page.reaches}))
