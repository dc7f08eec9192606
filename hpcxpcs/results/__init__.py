"""What a fit leaves behind: numbers, fitted data, pictures, a report. Nothing appears half-written."""
