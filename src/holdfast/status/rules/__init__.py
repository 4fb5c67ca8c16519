"""What regulators ask after an incident: one evidence record, one pack of rules for each place, reports.

    Record, Firm -> packs -> Assessment (grade, thresholds with the numbers behind them, deadlines)
                 -> dora_report -> the 76 fields of the EU template, as JSON and PDF

An engineer's reading of the laws, not legal advice. What could not be confirmed says `sure=False`.
"""
