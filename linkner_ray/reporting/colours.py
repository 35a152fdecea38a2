"""Colours of pictures and pages: those of Okabe and Ito, told apart with any colour vision.

A source, a kind and a system have the same colour wherever they appear.
"""

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW, GREY = "#56B4E9", "#CC79A7", "#F0E442", "#999999"
BLACK = "#000000"

SOURCE_COLOURS = {"local": BLUE, "llm": ORANGE, "same_name": GREEN}
KIND_COLOURS = {"predicted": SKY, "near_miss": PURPLE}
SYSTEM_COLOURS = {"local": BLUE, "linked": VERMILION}
LABEL_COLOURS = (SKY, ORANGE, GREEN, PURPLE, VERMILION, YELLOW, BLUE, GREY)
"""By place in the label set; more labels than colours begin again, their names tell them apart."""
