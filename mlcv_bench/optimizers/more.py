"""Update rules of the field beyond the notes, each with its paper, written as those of rules.py are.

To add one, write its function here and a row of its published implementation in tests/optimizers/test_more.py. These
rules run wherever the notes' do, and in a race where they are named.
"""
