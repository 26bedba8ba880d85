"""python -m onset status runs/demo"""

from onset.main import script

if __name__ == "__main__":
    script()
