"""Tables of published models: leaderboards, and lists of models with their sizes and dates.

`columns` reads a table, `names` what a model's name says, and `bases` which models were really
pretrained; `flags` are rows that contradict themselves. `frontier` compares small models with
larger ones over time, `returns` says what a doubling buys, `growth` how fast sizes grow, and
`sectors` who makes them. `fits` has lines and pairs with intervals, `page` the pages.
"""
