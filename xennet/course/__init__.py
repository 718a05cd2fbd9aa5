"""The course: lessons with questions that a seed makes and an exercise that a checker tries.

``lesson`` says what a lesson is, ``contents`` finds one, ``exercise`` starts the process in which
``trial`` runs what a learner wrote.
"""
