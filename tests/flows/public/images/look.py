from promptflow.contracts.multimedia import Image
from promptflow.core import tool


@tool
def look(image: Image) -> Image:
    return Image(image[:], mime_type="image/png")
