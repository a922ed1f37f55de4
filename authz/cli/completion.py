"""`authz completion`."""

from __future__ import annotations

import click

_SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_AUTHZ_COMPLETE"  # where click looks for the shell of a completion request


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that makes SHELL complete commands, options and files.

    \b
    Exit codes: 0 printed; 2 bad arguments
    Examples:
      eval "$(authz completion bash)"      # in ~/.bashrc
      eval "$(authz completion zsh)"       # in ~/.zshrc
      authz completion fish > ~/.config/fish/completions/authz.fish
    """  # noqa: D301 - click's mark against rewrapping
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    if complete is None:  # a shell that click no longer supports
        raise click.BadParameter(f"no completion for {shell}")
    click.echo(complete(context.find_root().command, {}, "authz", _VARIABLE).source())
