"""What the subcommands of ``tailor`` do; ``tailor_assets/cli.py`` reads the command line."""
