"""``--x a b c`` as ``--x a --x b --x c``: launchers can give a flag only once, click takes one value each."""

from __future__ import annotations

from collections.abc import Sequence

import click


def expand_several(argv: Sequence[str], parameters: Sequence[click.Parameter]) -> list[str]:
    """Write ``--x a b c`` as ``--x a --x b --x c``, for the options that may be given more than once.

    More than one value belongs to a flag only once the three positional arguments have been given, so that
    ``--participant-label 01 /bids /out group`` means what it says.
    """
    expanded: list[str] = []
    several = {name for parameter in parameters if _is_several(parameter) for name in parameter.opts}
    positionals = 0
    flag, values_of_flag = "", 0
    for index, word in enumerate(argv):
        if word == "--":
            return expanded + list(argv[index:])
        if word.startswith("-") and not _is_number(word):
            flag, values_of_flag = word, 1 if "=" in word else 0
            if _takes_no_value(word, parameters):
                flag = ""
            expanded.append(word)
        elif flag and values_of_flag == 0:
            values_of_flag = 1
            expanded.append(word)
        elif _normal(flag) in several and positionals >= 3:
            expanded += [_normal(flag), word]
        else:
            flag = ""
            positionals += 1
            expanded.append(word)
    return expanded


def _normal(flag: str) -> str:
    return flag.split("=", 1)[0].replace("_", "-")


def _is_several(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and parameter.multiple


def _takes_no_value(token: str, parameters: Sequence[click.Parameter]) -> bool:
    name = _normal(token)
    for parameter in parameters:
        if isinstance(parameter, click.Option) and name in (*parameter.opts, *parameter.secondary_opts):
            return parameter.is_flag or parameter.count
    return token.startswith("-") and not token.startswith("--") and set(token[1:]) <= {"v", "q", "h"}


def _is_number(token: str) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True
