"""The project's URL and contact, for messages and metadata. Both are empty until there is an address."""

PROJECT_URL = ""
CONTACT = ""
