"""Web pages for people: a gallery of generations, a page per job, a page about the installation's health.

Rendered here, working without JavaScript; the script only replaces what has changed. Callers and tenants are those of
the HTTP API, with a session instead of a header; what is shown comes from the same calls. All text is escaped, and the
content security policy allows no script and no style but the two files beside these modules.
"""
