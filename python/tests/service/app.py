"""A web service whose workers read what a monitoring process writes."""

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import l1d

# Made and used before the workers are forked.
cache = l1d.aio.Cache(memo=100)
sync = l1d.Cache(cache.client.sync)
sync.set("service:loaded", os.getpid(), 3600)


async def signals(request: Request) -> JSONResponse:
    return JSONResponse({"pid": os.getpid(), "signals": await cache.get("analysis:signals", 0)})


@l1d.cached(60, key="report:{name}", cache=cache)
async def report(name: str) -> int:
    await cache.incr("service:computed", initial=1, ttl=3600)
    return len(name)


async def reports(request: Request) -> JSONResponse:
    return JSONResponse({"report": await report(request.path_params["name"])})


async def visit(request: Request) -> JSONResponse:
    return JSONResponse({"visits": await cache.incr("service:visits", initial=1, ttl=3600)})


app = Starlette(
    routes=[
        Route("/signals", signals),
        Route("/report/{name}", reports),
        Route("/visit", visit),
    ]
)
