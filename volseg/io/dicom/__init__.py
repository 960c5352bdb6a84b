"""DICOM in and out: from a folder, zip or DICOMDIR of files to volumes with exact geometry, and label maps back."""
