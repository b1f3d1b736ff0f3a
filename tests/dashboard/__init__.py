"""Do the pages of the dashboard work in a browser?"""
