"""The fixed texts of the study's prompts (paper section 3), each written once: what is asked of a model, and what the
built-in models are trained to answer.
"""

BOXED_INSTRUCTION = " Please reason step by step, and put your final answer within \\boxed{}."

BRIEF_INSTRUCTION = " Please reason step by step (but not overthinking), and put your final answer within \\boxed{}."

# What stands between <think> and </think> without reasoning, by the params' without_mode.
THINKING = {"finished": "\nOkay, I think I have finished thinking.\n", "empty": "\n\n"}
