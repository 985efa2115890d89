"""Copies finished files from an expiring URL to a bucket or a folder, and guards every URL that kiejobs dials.

Knows nothing of jobs, rows or Kie: it is given a URL, a store and limits, and answers with what was stored. It
guarantees that nothing is visible under a key until every check has passed, and that only errors of `kiejobs.errors`
leave it.
"""
