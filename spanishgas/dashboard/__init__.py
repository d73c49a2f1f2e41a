"""What people look at: Streamlit pages over published snapshots and the tracking server. Nothing is ever written.

    lake, tracking -> tables.py, campaign.py, customer.py, ...   questions: a lake in, a small table out
                   -> views/                                     one file per page: ask, then show
    app.py         what Streamlit runs: the pages, the as-of date, the way into them

Customer rows are asked for anew each time: nothing keeps them beyond the page that shows them.
"""
