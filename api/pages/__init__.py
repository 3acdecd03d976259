"""Pages for people: what the service does, what came of it, and what needs a person's eyes. No build step.

They are rendered here and work without scripts; api/static/live.js keeps them up to date where there are some.
"""

from fastapi import APIRouter

from api.pages.archives import router as archives
from api.pages.images import router as images
from api.pages.overview import router as overview
from api.pages.pictures import router as pictures
from api.pages.reviews import router as reviews
from api.pages.submissions import router as submissions

router = APIRouter()
for part in (overview, submissions, pictures, images, archives, reviews):
    router.include_router(part)
