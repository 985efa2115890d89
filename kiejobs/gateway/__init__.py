"""The gateway: kiejobs over HTTP, for services in any language and for Kie's callbacks.

Every route is a thin edge over `KieJobs`: it reads the request, calls one method and writes the document or the problem.
It holds no state that matters: any number of gateways may run beside each other on one database.
"""
