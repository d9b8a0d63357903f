"""What the steps of a run do: functions from parameters and inputs to a folder, apart from
planning, so that their keys hold the code they run and no other.
"""
