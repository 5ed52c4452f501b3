"""Where the project is, and who answers for it: the one place for both. Empty until there is an address."""

PROJECT_URL = ""
CONTACT = ""
