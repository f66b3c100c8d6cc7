"""Writers: what was read and found, in the files of other tools.

One file, one form: `skewscope/writers/my_form.py` holds class `MyForm` (`skewscope convert --to my-form`, without a
`-tables` at the end) with `file_name` and `analysed`. Where that is true it writes an analysis into one file, with
`write(analysis, place, most_events) -> [what it holds, in words]`; else it writes one table a file, with
`write_table(name, rows, place)`.
"""
