"""DICOM in and out: from a folder, zip or DICOMDIR of files to volumes with exact geometry, and label maps back.

The words are in `frame`. In, each step using only those before it:

- `files` finds files; `elements`, `header`, `multiframe`, `series_text` and `traits` make frames of their headers;
- `matching`, `distinctions`, `repeats`, `duplicates` and `interleaving` say which frames are one volume, and `grouping`
  asks them in turn; `plane`, `slice_fit` and `geometry` place its frames on a grid;
- `codestream`, `entropy` and `decoders` unpack pixels, `pixels` rescales them, `gaps` fills slices on request;
- `joining`, `summary`, `contrast`, `index` and `selection` make a list of an export and choose from it; `reading` reads.

Out: `source`, `patient` and `concepts` take over what a result shares with its images; `seg` (with `seg_file`, `seg_grid`)
and `rtstruct` (with `rtstruct_file`, `outline`) write and read; `verify` reads back what was written.
"""
