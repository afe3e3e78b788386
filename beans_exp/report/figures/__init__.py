"""The report's figures. Each takes the report's `Palette`, so that a configuration looks the same in all of them."""
