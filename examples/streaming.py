"""Text as it is decided, piece by piece, and a stop string that may lie across tokens."""

import decodekit as dk


def main() -> None:
    prompt = "Count the books of the genre crime.\nlibrary as SQL:\n"
    for piece in dk.stream("zoo:base", prompt, strategy="temperature(0.7) | sample", seed=1, stop=[" WHERE"]):
        print(piece.text, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
