"""The page: what a command found, or saved results, as one HTML file that opens by double click, off line.

`document` writes it, `figures` says which figures a study has, `page.css` and `page.js` are its looks and its script.

To give a study figures, add a row to `figures.FIGURES`: a function of the report (its details as the saved JSON has
them) and of the live record (None for a saved result), which yields panels, as a picture's, or `PageFigure`s of plotly.
Whatever a user named goes to plotly through `figures.text`, since plotly reads `<b>` and `<a href>` as markup.
"""
