"""The SQL store: the truth about every task. Tables, queries in named blocks, migrations."""
